"""The beginning of a run: what the sessions are fed, or why there can be none."""

from __future__ import annotations

import grpc

from tickcell.conformance.caller import HINDRANCES, Caller, Refused, told
from tickcell.conformance.course import Course, Loop
from tickcell.conformance.expectation import Unmet
from tickcell.conformance.subject import WINDOW

# Refusals that a server may have its reasons for, though it keeps the contract.
_NO_FAULTS = HINDRANCES | {"ARGUMENT_INVALID", "MODEL_UNKNOWN", "OUTPUT_NOT_FINITE"}


class CannotBegin(Exception):
    """Whether the server keeps the contract cannot be told, for the reason that is said."""


def begun(caller: Caller, name: str, version: str, loop: Loop | None) -> Course:
    """Returns a course, once the server has shown that it takes sessions as the tests want them.

    Args:
      caller: connected to the server.
      name: of the model.
      version: of it.
      loop: None for one that the server itself runs.

    Raises:
      CannotBegin: the server does not let the caller in, or allows too little.
      Unmet: it answers what it must not.
    """
    try:
        course = Course.at(caller, name, version, loop)
        caller.create(model=name, model_version=version, window_step_count=WINDOW)
    except Refused as refusal:
        if refusal.reason not in _NO_FAULTS:
            raise Unmet(refusal.summary, "an answer") from refusal
        raise CannotBegin(refusal.summary) from refusal
    except grpc.RpcError as error:
        raise CannotBegin(f"gRPC's {told(error)}") from error
    finally:
        caller.clear()
    return course
