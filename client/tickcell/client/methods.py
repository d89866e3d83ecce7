"""The methods of the wire contract, as the client calls them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tickcell import wire
from tickcell.v1 import model_service_pb2, session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One method: where it is, and how its response is read."""

    path: str
    decode: Callable[[bytes], Any]

    @property
    def name(self) -> str:
        """The method's name without its service."""
        return self.path.rpartition("/")[2]


def _session(name: str) -> Method:
    response = getattr(session_service_pb2, f"{name}Response")
    return Method(f"/tickcell.v1.SessionService/{name}", response.FromString)


def _model(name: str) -> Method:
    response = getattr(model_service_pb2, f"{name}Response")
    return Method(f"/tickcell.v1.ModelService/{name}", response.FromString)


CREATE_SESSION = _session("CreateSession")
GET_SESSION = _session("GetSession")
LIST_SESSIONS = _session("ListSessions")
TOUCH_SESSION = _session("TouchSession")
RESET_SESSION = _session("ResetSession")
DELETE_SESSION = _session("DeleteSession")
LIST_MODELS = _model("ListModels")
GET_MODEL = _model("GetModel")
LIST_MODEL_VERSIONS = _model("ListModelVersions")
LOAD_MODEL = _model("LoadModel")
UNLOAD_MODEL = _model("UnloadModel")

STEP_SESSION = Method(
    "/tickcell.v1.SessionService/StepSession",
    lambda encoded: wire.parse(wire.StepSessionResponse, encoded),
)
STREAM_STEPS = Method(
    "/tickcell.v1.SessionService/StreamSteps",
    lambda encoded: wire.parse(wire.StreamStepsResponse, encoded),
)
