"""Refusals as this protocol's clients know them: by status codes and sentences of Triton's.

A sequence that is not alive is INVALID_ARGUMENT, in the sentence that clients match, with
our reason behind it. All others have the code that they have natively, and name the
sequence instead of its session. docs/triton.md has the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.rpc import code_pb2, status_pb2

from tickcell.server import errors, messages

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.oip.asked import Asked

_NOT_ALIVE = (
    errors.SessionUnknown,
    errors.SessionExpired,
    errors.SessionDeleted,
    errors.SessionMoved,
)
# In a refusal, no more of names and ids than fits a status.
_MAX_NAME = 80


def status(
    error: errors.TickcellError, request_id: str, caller: Caller | None, asked: Asked | None
) -> status_pb2.Status:
    """Returns a refusal as it goes over the wire.

    Args:
      error: why it is refused.
      request_id: the request's; "" for none.
      caller: whose request it is; None if it could not be read.
      asked: what was asked; None if it could not be read.
    """
    refusal = messages.status(error)
    text = str(error)
    if asked is not None and caller is not None:
        sequence, model = asked.sequence.id, asked.sequence.model[:_MAX_NAME]
        session = asked.sequence.session(caller.owner)
        text = text.removeprefix(f"{session}: ")
        if isinstance(error, _NOT_ALIVE):
            refusal.code = code_pb2.INVALID_ARGUMENT
            text = (
                f"inference request for sequence {sequence} to model '{model}' must specify the "
                f"START flag on the first request of the sequence [{error.reason}: {text}]"
            )
        else:
            text = f"sequence {sequence} of model '{model}': {text} [{error.reason}]"
    else:
        text = f"{text} [{error.reason}]"
    refusal.message = f"[request id: {request_id[:_MAX_NAME]}] {text}" if request_id else text
    return refusal
