"""ModelStreamInfer: one response per request, in order, and errors that end nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from tickcell.conformance.peer import Peer, PeerStream, Refused, request
from tickcell.server.config import Limits


@pytest.fixture
def stream(peer: Peer) -> Iterator[PeerStream]:
    with PeerStream(peer) as opened:
        yield opened


def test_refusal_names_reason_request_and_sequence_and_the_stream_goes_on(
    stream: PeerStream,
) -> None:
    stream.infer(7, start=True)
    with pytest.raises(Refused) as refused:
        stream.infer(7, [501.0], id="frame 12")
    text = str(refused.value)
    assert text.startswith("[request id: frame 12] sequence 7 of model 'counting': step 1, ")
    assert text.endswith("expected -500 to 500. [FRAME_OUT_OF_RANGE]")
    assert refused.value.request_id == "frame 12"
    assert stream.infer(7, [5.0]) == [1005.0]


def test_bytes_that_are_no_request_are_refused_and_the_stream_goes_on(stream: PeerStream) -> None:
    with pytest.raises(Refused, match=r"the request is not a ModelInferRequest.*\[MALFORMED\]"):
        stream.send(b"\xff\xff")
    assert stream.infer(7, [5.0], start=True) == [5.0]


def test_sequences_share_a_stream(stream: PeerStream) -> None:
    for step in range(3):
        for sequence in (7, "7", 8):
            assert stream.infer(sequence, [0.0], start=step == 0) == [1000.0 * step]


def test_stream_ends_with_the_status_of_its_first_refusal_if_its_header_says_so(
    peer: Peer,
) -> None:
    with PeerStream(peer, ("triton_grpc_error", "true")) as stream:
        stream.infer(7, start=True)
        with pytest.raises(Refused) as refused:
            stream.infer(8)
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "SESSION_UNKNOWN")


@pytest.mark.parametrize("wanted", [True, False])
def test_response_says_that_it_is_the_last_of_its_request_if_asked_to(
    peer: Peer, stream: PeerStream, wanted: bool
) -> None:
    message = request(7, start=True)
    message.parameters["triton_enable_empty_final_response"].bool_param = wanted
    parameters = stream.exchange(message).parameters
    assert {name: value.bool_param for name, value in parameters.items()} == (
        {"triton_final_response": True} if wanted else {}
    )
    # In a call there is nothing else to wait for.
    assert not peer.call("ModelInfer", message).parameters


def test_streams_of_both_protocols_share_their_limit() -> None:
    limits = Limits(max_streams=1)
    with (
        InProcessServer([served(CountingCell())], limits=limits) as server,
        Peer(server.address) as peer,
        PeerStream(peer) as first,
    ):
        first.infer(7, start=True)
        with PeerStream(peer) as second, pytest.raises(Refused) as refused:
            second.receive()
        assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "STREAMS_FULL")


def test_server_that_stops_answers_what_it_has_read_and_ends_the_stream() -> None:
    with (
        InProcessServer([served(CountingCell())]) as server,
        Peer(server.address) as peer,
        PeerStream(peer) as stream,
    ):
        stream.infer(7, start=True)
        server.stop()
        with pytest.raises(Refused) as refused:
            stream.receive()
    assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "DRAINING")
