"""The methods of the wire contract, as the client calls them."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any

from tickcell import wire
from tickcell.v1 import model_service_pb2, session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One method: where it is, and how its response is read.

    Attributes:
      store_id: gets the id of the store that a response names; None where it names none.
      names_life: whether the request names a session's generation, so that an answer to it
        comes from a store that has that.
    """

    path: str
    decode: Callable[[bytes], Any]
    store_id: Callable[[Any], str] | None = None
    names_life: bool = False

    @property
    def name(self) -> str:
        """The method's name without its service."""
        return self.path.rpartition("/")[2]


def _session(name: str, store_id: str = "session.store_id", *, names_life: bool = False) -> Method:
    response = getattr(session_service_pb2, f"{name}Response")
    path = f"/tickcell.v1.SessionService/{name}"
    return Method(path, response.FromString, operator.attrgetter(store_id), names_life)


def _model(name: str) -> Method:
    response = getattr(model_service_pb2, f"{name}Response")
    return Method(f"/tickcell.v1.ModelService/{name}", response.FromString)


CREATE_SESSION = _session("CreateSession")
GET_SESSION = _session("GetSession")
LIST_SESSIONS = _session("ListSessions", "store_id")
TOUCH_SESSION = _session("TouchSession", names_life=True)
RESET_SESSION = _session("ResetSession", names_life=True)
DELETE_SESSION = _session("DeleteSession", "store_id", names_life=True)
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
STEP_SESSIONS = Method(
    "/tickcell.v1.SessionService/StepSessions", wire.StepSessionsResponse.FromString
)
