"""The methods of ModelService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.server import calls, messages
from tickcell.server.catalogue import order
from tickcell.v1 import model_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tickcell.server.caller import Caller
    from tickcell.server.catalogue import ServedModel
    from tickcell.server.engine import Engine
    from tickcell.server.model_versions import ModelVersion


class ModelServicer:
    """Shows the models, and has them loaded and unloaded."""

    def __init__(self, gate: calls.Gate, engine: Engine) -> None:
        self._gate = gate
        self._engine = engine

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "ListModels": calls.unary(self._gate, pb.ListModelsRequest, self._list),
            "GetModel": calls.unary(self._gate, pb.GetModelRequest, self._get),
            "ListModelVersions": calls.unary(
                self._gate, pb.ListModelVersionsRequest, self._list_versions
            ),
            "LoadModel": calls.unary(self._gate, pb.LoadModelRequest, self._load),
            "UnloadModel": calls.unary(self._gate, pb.UnloadModelRequest, self._unload),
        }

    async def _list(self, _: Caller, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        after, size = messages.page(request)
        models = [model for model in self._engine.catalogue if order(*model.place) > after]
        last = order(*models[size - 1].place) if len(models) > size else ""
        return pb.ListModelsResponse(
            models=[messages.model(model) for model in models[:size]],
            next_page_token=messages.page_token(last),
        )

    async def _get(self, _: Caller, request: pb.GetModelRequest) -> pb.GetModelResponse:
        found = self._engine.catalogue.get(request.name, request.version)
        return pb.GetModelResponse(model=messages.model(found))

    async def _list_versions(
        self, caller: Caller, request: pb.ListModelVersionsRequest
    ) -> pb.ListModelVersionsResponse:
        caller.require_operator("counts the sessions of all owners")
        after, size = messages.page(request)
        known = await self._engine.list_model_versions()
        versions = [version for version in known if _place(version) > after]
        last = _place(versions[size - 1]) if len(versions) > size else ""
        return pb.ListModelVersionsResponse(
            model_versions=map(messages.model_version, versions[:size]),
            next_page_token=messages.page_token(last),
        )

    async def _load(self, caller: Caller, request: pb.LoadModelRequest) -> pb.LoadModelResponse:
        loaded = await self._engine.models.load(caller, request.name, request.version)
        (version,) = await self._versions_of([loaded])
        return pb.LoadModelResponse(model_version=messages.model_version(version))

    async def _unload(
        self, caller: Caller, request: pb.UnloadModelRequest
    ) -> pb.UnloadModelResponse:
        withdrawn = await self._engine.models.unload(caller, request.name, request.version)
        versions = await self._versions_of(withdrawn)
        return pb.UnloadModelResponse(model_versions=map(messages.model_version, versions))

    async def _versions_of(self, models: Iterable[ServedModel]) -> list[ModelVersion]:
        pins = {model.pin for model in models}
        return [each for each in await self._engine.list_model_versions() if each.pin in pins]


def _place(version: ModelVersion) -> str:
    """Returns what orders the versions, also those of one name and version."""
    return f"{order(*version.pin[:2])} {version.pin.fingerprint}"
