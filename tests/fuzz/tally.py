"""What became of hostile messages, and what should not have."""

from __future__ import annotations

import collections
import re

from google.rpc import code_pb2

from tickcell.conformance import peer
from tickcell.conformance.caller import CODES
from tickcell.v1 import session_service_pb2 as pb

STEPS = "/tickcell.v1.SessionService/StreamSteps"
TOGETHER = "/tickcell.v1.SessionService/StepSessions"
INFERENCES = f"/{peer.SERVICE}/ModelStreamInfer"

# With what a hostile message may be answered: neither with a fault of the server's, nor with
# what says that it was away.
ANSWERS = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "OUT_OF_RANGE"),
    *("FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "UNAUTHENTICATED"),
    "PERMISSION_DENIED",
}
_REASON = re.compile(rf"\[({'|'.join(CODES)})[]:]")


class Tally:
    """What became of messages, of all courses.

    Attributes:
      sent: how many messages were.
      by_code: how many were answered with each status code.
      by_rpc: how many were sent to each RPC.
      faults: what should not have come of a message, with the course it was in.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.by_code: collections.Counter[str] = collections.Counter()
        self.by_rpc: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []


def codes_within(path: str, encoded: bytes) -> list[tuple[str, str]]:
    """Returns the code of each answer in a unary one, and the text that goes with it."""
    if path != TOGETHER:
        return []
    return [
        (code_pb2.Code.Name(each.error.code), each.error.message)
        for each in pb.StepSessionsResponse.FromString(encoded).responses
    ]


def code_of(path: str, encoded: bytes) -> tuple[str, str]:
    """Returns the code of an answer in a stream, and the text that goes with it."""
    if path == STEPS:
        status = pb.StreamStepsResponse.FromString(encoded).error
        return code_pb2.Code.Name(status.code), status.message
    if path == INFERENCES:
        told = peer.pb.ModelStreamInferResponse.FromString(encoded).error_message
        if not told:
            return "OK", ""
        reason = _REASON.search(told)
        return CODES[reason[1]] if reason else "no reason", told
    return "OK", ""
