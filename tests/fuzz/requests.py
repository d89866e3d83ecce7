"""Requests as they should be, one kind for each RPC; an RPC without a kind is an error.

They are about a session and a sequence of the sender's own, or about somebody else's.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as oip_pb

from fuzz.rpcs import Rpc
from fuzz.targets import MODEL, Target
from tickcell.v1 import model_service_pb2 as models_pb
from tickcell.v1 import session_service_pb2 as pb

# What a target of the sender's own is asked for; it expires soon if nobody deletes it.
_TTL_S = 20
_SERVICES = ("", "tickcell.v1.SessionService", "inference.GRPCInferenceService", "nobody.Known")


class Sender:
    """Who draws requests, and follows what becomes of its own session and sequence.

    Attributes:
      chance: what is drawn from.
      session: its own.
      sequence: its own.
      victims: what others have.
      words: texts and whole numbers that mean something to the server.
      next_step: of its session.
      next_of_sequence: the step that its sequence expects.
    """

    def __init__(
        self, chance: random.Random, name: str, victims: Sequence[Target], frames: np.ndarray
    ) -> None:
        """Begins with a session and a sequence that are yet to be created.

        Args:
          chance: what is drawn from.
          name: of its own session and sequence.
          victims: what others have.
          frames: readings that the model takes, `[T, F]`.
        """
        self.chance = chance
        self.victims = victims
        self._frames = frames
        self.session = Target("", name, 0, self.uuid())
        self.sequence = Target.of_sequence("", name, self.uuid())
        self.next_step = self.next_of_sequence = 0
        self.words: list[str | int] = [MODEL, "1", "token:mallory", *_SERVICES]
        for target in (*victims, self.session, self.sequence):
            self.words += [target.owner, target.session, target.generation, target.request_id]
            self.words += [target.life] if target.sequence is None else [target.sequence]

    def create(self) -> pb.CreateSessionRequest:
        """Returns the request that creates its own session."""
        request = pb.CreateSessionRequest(
            session=self.session.session, request_id=self.session.request_id, model=MODEL
        )
        request.idle_ttl_duration.seconds = _TTL_S
        return request

    def created(self, session: pb.Session) -> None:
        """Takes notice of the session that it now has."""
        self.session = self.session._replace(generation=session.generation)
        self.next_step = session.next_step

    def request(self, path: str) -> Message:
        """Returns a request of an RPC."""
        return KINDS[path](self)

    def target(self) -> Target:
        """Returns what a request is about: mostly its own session."""
        if self.chance.random() < 0.7:
            return self.session
        victim = self.chance.choice(self.victims)
        if self.chance.random() < 0.3:
            return victim._replace(generation=self.chance.choice((0, 1, 2**53 - 1)))
        return victim

    def frames(self) -> np.ndarray:
        """Returns some frames, `[T, F]`."""
        count = self.chance.choice((1, 1, 1, 1, 2, 5, 32))
        start = self.chance.randrange(len(self._frames) - count)
        return self._frames[start : start + count]

    def uuid(self) -> str:
        """Returns a UUID that follows from what is drawn from."""
        return str(uuid.UUID(int=self.chance.getrandbits(128), version=4))


def _life(request_class: Any, **more: Callable[[Sender], Any]) -> Callable[[Sender], Message]:
    """Returns the kind of request that is about a life."""

    def request(sender: Sender) -> Message:
        target = sender.target()
        known = {"session": target.session, "generation": target.generation, "owner": target.owner}
        own = request_class.DESCRIPTOR.fields_by_name
        fields = {name: value for name, value in known.items() if name in own}
        if sender.chance.random() < 0.7:
            fields.pop("owner", None)
        drawn = {name: draw(sender) for name, draw in more.items()}
        message: Message = request_class(**fields, **drawn)
        return message

    return request


def _create(sender: Sender) -> Message:
    chance = sender.chance
    request = sender.create()
    target = sender.target()
    if target is not sender.session:
        request.session = target.session
    if chance.random() < 0.5:
        request.request_id = sender.uuid()
    request.series_count = chance.choice((0, 1, 3))
    request.window_step_count = chance.choice((0, 1, 64))
    request.labels["note"] = "a caller's own"
    drawn = chance.random()
    if drawn < 0.1:
        request.export.format_version = chance.choice((1, 1, 1, 2))
        content = pb.SessionContent(model=MODEL, series_count=1, history=bytes(8))
        request.export.content = content.SerializeToString()
    elif drawn < 0.2:
        request.initial_state_tensors.add(name="state", dimensions=[1, 8], values=[0.5] * 8)
    return request


def _steps(request_class: Any) -> Callable[[Sender], Message]:
    def request(sender: Sender) -> Message:
        target, frames = sender.target(), sender.frames()
        first_step = sender.next_step
        late = sender.chance.random() < 0.2
        if late:
            first_step = max(0, first_step - sender.chance.randint(1, 40))
        elif target is sender.session:
            sender.next_step += len(frames)
        message: Message = request_class(
            session=target.session,
            generation=target.generation,
            first_step=first_step,
            step_count=len(frames),
            frames=frames.ravel(),
        )
        return message

    return request


def _fork(sender: Sender) -> Message:
    target = sender.target()
    request = pb.ForkSessionRequest(
        source=target.session,
        source_generation=target.generation,
        request_id=sender.uuid(),
        labels={"note": "a copy"},
    )
    request.idle_ttl_duration.seconds = _TTL_S
    if sender.chance.random() < 0.3:
        request.step = sender.next_step
    if sender.chance.random() < 0.3:
        request.source_owner = target.owner
    return request


def _export(sender: Sender) -> Any:
    request: Any = _life(pb.ExportSessionRequest, request_id=Sender.uuid)(sender)
    request.window = sender.chance.random() < 0.5
    request.end = sender.chance.random() < 0.1
    return request


def _preview(sender: Sender) -> Message:
    target, frames = sender.target(), sender.frames()
    branches = sender.chance.choice((1, 1, 2, 7))
    return pb.PreviewStepsRequest(
        session=target.session,
        generation=target.generation,
        step=sender.next_step,
        branch_count=branches,
        step_count=len(frames),
        frames=np.concatenate([frames] * branches).ravel(),
    )


_streamed = _steps(pb.StreamStepsRequest)


def _together(sender: Sender) -> Message:
    message: Any = pb.StepSessionsRequest()
    for _ in range(sender.chance.choice((1, 2, 2, 3, 8))):
        message.requests.append(_streamed(sender))
    together: Message = message
    return together


def _infer(sender: Sender) -> Any:
    chance = sender.chance
    target: Target = sender.sequence
    if chance.random() < 0.25:
        target = chance.choice([each for each in sender.victims if each.sequence is not None])
    frames = sender.frames()
    request = oip_pb.ModelInferRequest(model_name=MODEL, id=chance.choice(("", "r 1")))
    shape = [1, *frames.shape] if len(frames) > 1 else [1, frames.shape[1]]
    tensor = request.inputs.add(name="frames", datatype="FP32", shape=shape)
    if chance.random() < 0.3:
        tensor.contents.fp32_contents.extend(frames.ravel().tolist())
    else:
        request.raw_input_contents.append(frames.astype("<f4").tobytes())
    parameters = request.parameters
    if isinstance(target.sequence, int):
        parameters["sequence_id"].int64_param = target.sequence
    else:
        parameters["sequence_id"].string_param = str(target.sequence)
    if target.life and chance.random() < 0.8:
        parameters["sequence_life"].string_param = target.life
        parameters["sequence_step"].int64_param = sender.next_of_sequence
    if sender.next_of_sequence == 0 or chance.random() < 0.05:
        parameters["sequence_start"].bool_param = True
    if chance.random() < 0.03:
        parameters["sequence_end"].bool_param = True
    if target is sender.sequence:
        sender.next_of_sequence += len(frames)
    return request


def _page(request_class: Any) -> Callable[[Sender], Message]:
    def request(sender: Sender) -> Message:
        message: Message = request_class(page_size=sender.chance.choice((0, 1, 5)))
        return message

    return request


def _model(request_class: Any) -> Callable[[Sender], Any]:
    """Returns the kind of request that names a model, in whichever field."""

    def request(sender: Sender) -> Any:
        message: Any = request_class()
        for field in message.DESCRIPTOR.fields:
            if field.name in ("name", "model_name"):
                setattr(message, field.name, MODEL)
            elif field.name in ("version", "model_version"):
                setattr(message, field.name, sender.chance.choice(("", "1", "2")))
        return message

    return request


def _health(sender: Sender) -> Any:
    return health_pb2.HealthCheckRequest(service=sender.chance.choice(_SERVICES))


def _reflection(sender: Sender) -> Any:
    name = sender.chance.choice(("tickcell.v1.Session", *_SERVICES))
    asked: list[dict[str, Any]] = [
        {"list_services": "*"},
        {"file_by_filename": "tickcell/v1/session_service.proto"},
        {"file_containing_symbol": name},
        {"file_containing_extension": {"containing_type": name, "extension_number": 7}},
        {"all_extension_numbers_of_type": name},
    ]
    return reflection_pb2.ServerReflectionRequest(host="here", **sender.chance.choice(asked))


_SESSIONS, _MODELS = "/tickcell.v1.SessionService/", "/tickcell.v1.ModelService/"
_INFERENCE = "/inference.GRPCInferenceService/"

KINDS: dict[str, Callable[[Sender], Message]] = {
    f"{_SESSIONS}CreateSession": _create,
    f"{_SESSIONS}GetSession": _life(pb.GetSessionRequest),
    f"{_SESSIONS}ListSessions": _page(pb.ListSessionsRequest),
    f"{_SESSIONS}TouchSession": _life(pb.TouchSessionRequest),
    f"{_SESSIONS}ResetSession": _life(pb.ResetSessionRequest, request_id=Sender.uuid),
    f"{_SESSIONS}ClaimSession": _life(pb.ClaimSessionRequest, request_id=Sender.uuid),
    f"{_SESSIONS}ForkSession": _fork,
    f"{_SESSIONS}ExportSession": _export,
    f"{_SESSIONS}GetOutputs": _life(pb.GetOutputsRequest),
    f"{_SESSIONS}PreviewSteps": _preview,
    f"{_SESSIONS}DeleteSession": _life(pb.DeleteSessionRequest),
    f"{_SESSIONS}StepSession": _steps(pb.StepSessionRequest),
    f"{_SESSIONS}StreamSteps": _streamed,
    f"{_SESSIONS}StepSessions": _together,
    f"{_MODELS}ListModels": _page(models_pb.ListModelsRequest),
    f"{_MODELS}GetModel": _model(models_pb.GetModelRequest),
    f"{_MODELS}ListModelVersions": _page(models_pb.ListModelVersionsRequest),
    f"{_MODELS}LoadModel": _model(models_pb.LoadModelRequest),
    f"{_MODELS}UnloadModel": _model(models_pb.UnloadModelRequest),
    f"{_INFERENCE}ModelInfer": _infer,
    f"{_INFERENCE}ModelStreamInfer": _infer,
    **{
        f"{_INFERENCE}{name}": _model(getattr(oip_pb, f"{name}Request"))
        for name in (
            *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"),
            *("ModelConfig", "ModelStatistics", "RepositoryIndex"),
            *("RepositoryModelLoad", "RepositoryModelUnload"),
            *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister"),
            *("SystemSharedMemoryUnregister", "CudaSharedMemoryStatus"),
            *("CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
            *("TraceSetting", "LogSettings"),
        )
    },
    "/grpc.health.v1.Health/Check": _health,
    "/grpc.health.v1.Health/Watch": _health,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _reflection,
}


def require_kinds(rpcs: Iterable[Rpc]) -> None:
    """Checks that there is a kind of request for each RPC, and none for nothing.

    Raises:
      LookupError: there is not.
    """
    served = {rpc.path for rpc in rpcs}
    if served != KINDS.keys():
        without, unserved = sorted(served - KINDS.keys()), sorted(KINDS.keys() - served)
        raise LookupError(
            f"fuzz/requests.py: no kind of request for {without}, and for what is not "
            f"served: {unserved}; add or remove them in KINDS."
        )
