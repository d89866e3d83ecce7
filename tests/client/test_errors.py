"""The client's errors mirror the contract's reasons."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from tickcell.client import errors, grpc_errors
from tickcell.v1 import error_reason_pb2

REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    if name != "ERROR_REASON_UNSPECIFIED"
]


Metadata = tuple[tuple[str, bytes], ...]


class EndedCall:
    """The end of a call, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode, details: str = "", metadata: Metadata = ()) -> None:
        self._end = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._end[0]

    def details(self) -> str:
        return self._end[1]

    def trailing_metadata(self) -> Metadata:
        return self._end[2]


def rich_status(reason: str, domain: str = "tickcell") -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"next_step": "7"})
    detail = any_pb2.Any()
    detail.Pack(info)
    return status_pb2.Status(code=11, message="s: got 9, expected 7.", details=[detail])


def rich_call(
    reason: str, domain: str = "tickcell", code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
) -> EndedCall:
    encoded = rich_status(reason, domain).SerializeToString()
    return EndedCall(code, "text", (("grpc-status-details-bin", encoded),))


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_its_error(reason: str) -> None:
    error = grpc_errors.from_call(rich_call(reason))
    words = "".join(word.capitalize() for word in reason.split("_"))
    assert type(error).__name__ == f"{words}Error"
    assert isinstance(error, errors.RefusedError)
    assert error.reason == reason


def test_no_error_has_a_reason_of_its_own() -> None:
    assert sorted(errors.REASONS) == sorted(REASONS)


def test_an_error_has_the_server_s_text_and_numbers() -> None:
    error = grpc_errors.from_call(rich_call("STEP_GAP"))
    assert isinstance(error, errors.RefusedError)
    assert (str(error), error.metadata) == ("s: got 9, expected 7.", {"next_step": "7"})


def test_a_reason_of_a_newer_server_is_a_refusal() -> None:
    error = grpc_errors.from_call(rich_call("SESSION_TOO_CLEVER"))
    assert type(error) is errors.RefusedError
    assert error.reason == "SESSION_TOO_CLEVER"


def test_a_refusal_in_a_stream_is_the_same_error() -> None:
    assert isinstance(grpc_errors.from_status(rich_status("STEP_STALE")), errors.StepStaleError)


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"]
)
def test_a_broken_call_leaves_the_outcome_unknown(code: str) -> None:
    error = grpc_errors.from_call(EndedCall(grpc.StatusCode[code]))
    assert type(error) is errors.LostError


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "UNAUTHENTICATED"])
def test_what_grpc_refuses_is_not_tried_again(code: str) -> None:
    error = grpc_errors.from_call(EndedCall(grpc.StatusCode[code], "too long"))
    assert (type(error), str(error)) == (errors.CallError, f"{code}: too long")


def test_the_details_of_another_domain_are_not_ours() -> None:
    error = grpc_errors.from_call(
        rich_call("STEP_GAP", "proxy.example", grpc.StatusCode.UNAVAILABLE)
    )
    assert type(error) is errors.LostError


def test_details_that_cannot_be_read_leave_the_status_code() -> None:
    call = EndedCall(grpc.StatusCode.UNAVAILABLE, "", (("grpc-status-details-bin", b"\xff"),))
    assert type(grpc_errors.from_call(call)) is errors.LostError


def test_only_what_may_pass_is_tried_again() -> None:
    passing = {reason for reason, error in errors.REASONS.items() if error.may_pass}
    assert passing == {
        *("STORE_FULL", "STORE_BUSY", "STORE_AWAY", "OUTCOME_UNKNOWN"),
        *("STREAMS_FULL", "DRAINING", "INTERNAL"),
        *("OWNER_SESSIONS_FULL", "OWNER_RATE_EXCEEDED"),
    }


def test_refusal_that_says_when_it_may_pass_is_tried_again_then() -> None:
    status = rich_status("MODEL_NOT_SERVED")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(2500)
    status.details.add().Pack(retry)
    refused = grpc_errors.from_status(status)
    assert type(refused) is errors.ModelNotServedError
    assert (refused.may_pass, refused.retry_s) == (True, 2.5)
    assert not errors.ModelNotServedError.may_pass
