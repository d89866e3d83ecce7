"""The methods that show the server and its models, and load and unload them."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from tickcell.server import calls, errors
from tickcell.server.model_versions import State
from tickcell.server.oip.protocol import SERVICE, config_pb, pb
from tickcell.server.oip.tensors import FLOAT32

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.engine import Engine
    from tickcell.server.health import Health
    from tickcell.server.oip.naming import Port
    from tickcell.server.oip.repository import Repository, Version
    from tickcell.server.oip.statistics import Statistics

EXTENSIONS = ("sequence", "statistics", "model_configuration")
# What lies in the directory of models beside what the catalogue has.
_NOT_LOADED = (State.AVAILABLE, State.LOADING, State.BROKEN)
# No model of ours runs in another server's backend.
_PLATFORM = "tickcell"

_TENSORS_IN_MESSAGES = "tensors are sent in the messages; shared memory is not supported."
_SET_AT_START = "logs and traces are configured when the server starts, not by calls."


class ModelControl(Protocol):
    """Loads and unloads models by call."""

    async def load(self, caller: Caller, name: str) -> object:
        """Serves the newest version of a model.

        Raises:
          TickcellError: it cannot be served.
        """

    async def unload(self, caller: Caller, name: str) -> object:
        """Serves a model to no new session.

        Raises:
          TickcellError: the model is not served.
        """


class ModelServicer:
    """Shows the models that this protocol serves."""

    def __init__(
        self,
        gate: calls.Gate,
        engine: Engine,
        repository: Repository,
        statistics: Statistics,
        health: Health,
        *,
        idle_ttl_ns: int,
        control: ModelControl | None = None,
    ) -> None:
        self._gate = gate
        self._engine = engine
        self._repository = repository
        self._statistics = statistics
        self._health = health
        self._idle_us = idle_ttl_ns // 1000
        self._control = control

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        answers: dict[str, Any] = {
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        return {
            "ServerLive": grpc.unary_unary_rpc_method_handler(self._server_live),
            "ServerReady": grpc.unary_unary_rpc_method_handler(self._server_ready),
        } | {
            name: calls.unary(self._gate, getattr(pb, f"{name}Request"), answer)
            for name, answer in answers.items()
        }

    # The first two are asked also while the server drains.

    async def _server_live(self, encoded: bytes, context: calls.Context) -> bytes:
        return await self._probed(
            pb.ServerLiveRequest, encoded, context, pb.ServerLiveResponse(live=True)
        )

    async def _server_ready(self, encoded: bytes, context: calls.Context) -> bytes:
        response = pb.ServerReadyResponse(ready=self._health.is_serving)
        return await self._probed(pb.ServerReadyRequest, encoded, context, response)

    async def _probed(
        self, request_class: Any, encoded: bytes, context: calls.Context, response: Any
    ) -> bytes:
        try:
            calls.parse(request_class, encoded)
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)
        answered: bytes = response.SerializeToString()
        return answered

    async def _server_metadata(self, _: Caller, _request: Any) -> Any:
        version = importlib.metadata.version("tickcell")
        return pb.ServerMetadataResponse(name="tickcell", version=version, extensions=EXTENSIONS)

    async def _model_ready(self, _: Caller, request: Any) -> Any:
        try:
            self._repository.find(request.name, request.version)
        except errors.ModelUnknown:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._health.is_serving)

    async def _model_metadata(self, _: Caller, request: Any) -> Any:
        naming = self._repository.find(request.name, request.version).layout.naming
        versions = self._repository.versions(request.name)
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[each.model.card.version for each in versions],
            platform=_PLATFORM,
            inputs=[_metadata(port) for port in naming.inputs],
            outputs=[_metadata(port) for port in naming.outputs],
        )

    async def _model_config(self, _: Caller, request: Any) -> Any:
        version = self._repository.find(request.name, request.version)
        return pb.ModelConfigResponse(config=_config(version, self._idle_us))

    async def _model_statistics(self, _: Caller, request: Any) -> Any:
        if request.name:
            places = [self._repository.find(request.name, request.version).place]
            if not request.version:
                places = [each.place for each in self._repository.versions(request.name)]
        else:
            entries = [each for each in self._repository.entries() if not each.problem]
            places = [(each.model.card.name, each.model.card.version) for each in entries]
        messages = [self._statistics.message(place) for place in places]
        return pb.ModelStatisticsResponse(model_stats=messages)

    async def _index(self, caller: Caller, request: Any) -> Any:
        _check_repository(request.repository_name)
        index = pb.RepositoryIndexResponse.ModelIndex
        models = [
            index(
                name=model.card.name,
                version=model.card.version,
                state="UNAVAILABLE" if problem else "READY",
                reason=problem,
            )
            for model, problem in self._repository.entries()
        ]
        for known in await self._engine.list_model_versions():
            if known.state in _NOT_LOADED:
                # What is wrong with it names paths.
                problem = known.problem if caller.role == "operator" else ""
                models.append(
                    index(
                        name=known.pin.model,
                        version=known.pin.version,
                        state="LOADING" if known.state is State.LOADING else "UNAVAILABLE",
                        reason=problem or known.state.name.lower(),
                    )
                )
        return pb.RepositoryIndexResponse(
            models=[each for each in models if each.state == "READY" or not request.ready]
        )

    async def _load(self, caller: Caller, request: Any) -> Any:
        caller.require_operator("loads a model")
        await self._controlled(request).load(caller, request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, caller: Caller, request: Any) -> Any:
        caller.require_operator("unloads a model")
        await self._controlled(request).unload(caller, request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _controlled(self, request: Any) -> ModelControl:
        _check_repository(request.repository_name)
        if self._control is None:
            raise errors.ArgumentInvalid(
                "this server loads and unloads no models by call; it serves those with which it "
                "was started.",
                field="model_name",
                got=request.model_name[:80],
            )
        for name in sorted(request.parameters):
            raise errors.ArgumentInvalid(
                f"parameters: got {name[:80]!r}, expected none: a model is served as it is in "
                "the repository.",
                field="parameters",
                got=name[:80],
            )
        return self._control


def refused_methods(gate: calls.Gate, served: set[str]) -> dict[str, calls.Handler]:
    """Returns handlers that refuse, with a sentence, what the service has and we do not serve."""

    def refusing(sentence: str) -> calls.Handler:
        async def refuse(_: bytes, context: calls.Context) -> bytes:
            try:
                gate.admit(context)
            except errors.TickcellError as error:
                await gate.refuse(context, error)
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, sentence)
            raise AssertionError("abort does not return")

        return grpc.unary_unary_rpc_method_handler(refuse)

    return {
        method.name: refusing(
            _TENSORS_IN_MESSAGES if "SharedMemory" in method.name else _SET_AT_START
        )
        for method in SERVICE.methods
        if method.name not in served
    }


def _check_repository(name: str) -> None:
    if name:
        raise errors.ArgumentInvalid(
            f"repository_name: got {name[:80]!r}, expected none: there is one repository.",
            field="repository_name",
            got=name[:80],
        )


def _metadata(port: Port) -> Any:
    tensor = pb.ModelMetadataResponse.TensorMetadata
    # The first axis is the batch, as Triton writes it for any that has one; it is 1 here.
    return tensor(name=port.name, datatype=FLOAT32, shape=(-1, *port.dims))


def _config(version: Version, idle_us: int) -> Any:
    card, naming = version.model.card, version.layout.naming
    said = {
        "fingerprint": version.model.fingerprint,
        "rate_hz": f"{card.rate_hz:g}",
        "warm_up_steps": str(card.warm_up_steps),
    }
    return config_pb.ModelConfig(
        name=card.name,
        platform=_PLATFORM,
        max_batch_size=1,
        input=[
            config_pb.ModelInput(name=port.name, data_type=config_pb.TYPE_FP32, dims=port.dims)
            for port in naming.inputs
        ],
        output=[
            config_pb.ModelOutput(name=port.name, data_type=config_pb.TYPE_FP32, dims=port.dims)
            for port in naming.outputs
        ],
        sequence_batching=config_pb.ModelSequenceBatching(
            max_sequence_idle_microseconds=idle_us,
            oldest=config_pb.ModelSequenceBatching.StrategyOldest(),
        ),
        parameters={
            name: config_pb.ModelParameter(string_value=value) for name, value in said.items()
        },
    )
