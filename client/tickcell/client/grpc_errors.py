"""From gRPC's failures to the client's errors: the one place that knows both."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import message
from google.rpc import error_details_pb2, status_pb2

from tickcell.client import errors

DOMAIN = "tickcell"

# Where gRPC carries a google.rpc.Status.
_DETAILS = "grpc-status-details-bin"

# Codes that gRPC, a proxy or a crash gives to a call of which nobody knows how
# far it came. With our ErrorInfo the server itself has spoken, and it is known.
_LOST = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}


def from_call(call: Any) -> errors.TickcellError:
    """Returns what the end of a failed call means.

    Args:
      call: the `grpc.RpcError` that a call raised, which is the call itself.
    """
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS:
            refused = _refused(value)
            if refused is not None:
                return refused
    code = call.code()
    kind = errors.LostError if code in _LOST else errors.CallError
    return kind(f"{code.name}: {call.details()}", code.name)


def closed() -> errors.LostError:
    """Returns the failure of a call whose connection was closed here, amid it or before."""
    return errors.LostError("CANCELLED: the connection was closed", "CANCELLED")


def from_reply(reply: Any) -> errors.TickcellError:
    """Returns what the error in a reply to one request of several means."""
    refused = from_status(reply.error)
    return refused or errors.ReplyError(f"{reply.session}: {reply.error.message}")


def from_status(status: status_pb2.Status) -> errors.RefusedError | None:
    """Returns the error of a status with an ErrorInfo of our domain; None without one."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    refused, retry_s = None, None
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            refused = errors.refused(info.reason, status.message, info.metadata)
        elif detail.Unpack(retry):
            retry_s = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
    if refused is not None and retry_s is not None:
        # Whoever says when it may succeed says that it may, of whatever reason.
        refused.retry_s, refused.may_pass = retry_s, True
    return refused


def _refused(encoded: bytes) -> errors.RefusedError | None:
    try:
        return from_status(status_pb2.Status.FromString(encoded))
    except message.DecodeError:
        # Somebody else's, such as a proxy's: then the status code is all there is.
        return None
