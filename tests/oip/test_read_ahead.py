"""Requests of one stream that are in flight together: bounded, and answered in order."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from doubles.counted_source import wait_until
from doubles.in_process_server import InProcessServer
from doubles.interrupted_store import InterruptedStore
from tickcell.conformance.peer import (
    PATIENCE_S,
    SERVICE,
    Peer,
    PeerStream,
    Refused,
    outputs,
    request,
)
from tickcell.server import errors
from tickcell.server.access import Access
from tickcell.server.calls import Gate
from tickcell.server.config import Config
from tickcell.server.observer import Observer
from tickcell.server.oip import asked
from tickcell.server.oip.forms import Form, Said
from tickcell.server.oip.infer_servicer import InferServicer
from tickcell.server.oip.read_ahead import MOST_BYTES, MOST_REQUESTS, Read, ReadAhead
from tickcell.server.oip.statistics import Statistics
from tickcell.server.streams import Streams

SEQUENCES = range(1, 9)
STEPS = 20


def read_of(index: int, sequence: int | None) -> Read:
    """Returns a request, which its size tells from others."""
    if sequence is None:
        return Read(index, 0, 0, "", None, None)
    message = request(sequence)
    return Read(index, 0, 0, "", Said(Form(asked.read(message), message), ()), None)


@given(st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=1, max_size=30))
def test_groups_keep_the_order_and_have_one_request_of_a_sequence(
    sequences: list[int | None],
) -> None:
    async def groups() -> list[list[Read]]:
        ahead = ReadAhead()
        for index, sequence in enumerate(sequences):
            ahead.add(read_of(index, sequence))
        ahead.end()
        taken = []
        while group := await ahead.take():
            taken.append(group)
        return taken

    taken = asyncio.run(groups())
    assert [read.size for group in taken for read in group] == list(range(len(sequences)))
    for group, following in zip(taken, [*taken[1:], []], strict=True):
        known = [read.sequence for read in group if read.sequence is not None]
        assert len({*known}) == len(known)
        # A group ends where it must.
        assert not following or following[0].sequence in known


class NeverReading:
    """The context of a stream whose caller sends without end, and takes no answer."""

    def __init__(self, messages: Iterator[Any]) -> None:
        self.messages = messages
        self.read_count = 0

    def __getattr__(self, name: str) -> Any:
        return lambda: ()

    async def read(self) -> bytes:
        self.read_count += 1
        encoded: bytes = next(self.messages).SerializeToString()
        return encoded

    async def write(self, _: bytes) -> None:
        await asyncio.get_running_loop().create_future()


class NoSequences:
    """Sequences of which none is there."""

    def version_of(self, *_: object) -> None:
        return None

    async def infer(self, *_: object) -> None:
        raise errors.ModelUnknown("model: not found.", model="counting")


async def read_unanswered(messages: Iterator[Any]) -> int:
    """Returns how many of a caller's requests are read if it takes no answer."""
    observer = Observer()
    gate = Gate(Access.of(Config(durability="none")), observer)
    engine: Any = SimpleNamespace(observer=observer)
    sequences: Any = NoSequences()
    servicer = InferServicer(gate, engine, sequences, Statistics(), Streams(gate, observer, 1))
    stream: Any = servicer.methods()["ModelStreamInfer"].stream_stream
    context = NeverReading(messages)
    serving = asyncio.create_task(stream(None, context))
    # Far more turns than it takes to read as much as may be.
    for _ in range(20 * MOST_REQUESTS):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait([serving])
    assert observer.open_streams == 0
    return context.read_count


@pytest.mark.parametrize("id_bytes", [0, MOST_BYTES // 16, MOST_BYTES // 4, 60_000])
def test_caller_that_never_reads_has_no_more_than_the_bound_in_our_memory(id_bytes: int) -> None:
    padded = [request(sequence, id=id_bytes * "x") for sequence in range(1, 2 * MOST_REQUESTS)]
    size = padded[0].ByteSize()
    expected = min(MOST_REQUESTS, math.ceil(MOST_BYTES / size))
    assert asyncio.run(read_unanswered(iter(padded))) == expected


def requests(steps: int) -> Iterator[Any]:
    """Yields the requests of all sequences, which take turns."""
    for step in range(steps):
        for sequence in SEQUENCES:
            yield request(sequence, [0.0], start=step == 0, id=f"{sequence} at {step}")


def answered_at_once(
    peer: Peer, records: InterruptedStore, messages: Iterable[Any], *metadata: tuple[str, str]
) -> Iterator[Any]:
    """Yields the responses to requests of which the server has all before it answers the first."""
    are_sent = threading.Event()

    def sent() -> Iterator[bytes]:
        for message in messages:
            yield message.SerializeToString()
        are_sent.set()

    # It stands still in its first commit until the rest has come.
    records.interruptions.append(lambda: are_sent.wait(PATIENCE_S))
    method: Any = peer.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
    for encoded in method(sent(), metadata=metadata, timeout=PATIENCE_S):
        yield pb.ModelStreamInferResponse.FromString(encoded).infer_response


def test_sequences_of_a_stream_share_rounds_and_answers_are_in_order(
    peer: Peer, records: InterruptedStore
) -> None:
    responses = answered_at_once(peer, records, requests(STEPS))
    assert [(each.id, outputs(each)) for each in responses] == [
        (message.id, [1000.0 * (index // len(SEQUENCES))])
        for index, message in enumerate(requests(STEPS))
    ]
    assert max(records.change_counts) > 1


def test_request_of_the_same_sequence_as_the_one_before_overtakes_nothing(
    peer: Peer, records: InterruptedStore
) -> None:
    messages = [
        request(sequence, start=step == 0, id=f"{sequence} at {step}")
        for sequence in range(1, 51)
        for step in range(2)
    ]
    responses = answered_at_once(peer, records, messages)
    assert [each.id for each in responses] == [message.id for message in messages]


def test_requests_of_one_sequence_that_are_sent_at_once_go_one_after_the_other(
    peer: Peer,
) -> None:
    with PeerStream(peer) as stream:
        for step in range(100):
            stream.put(request(7, [float(step)], start=step % 10 == 0, end=step % 10 == 9))
        for step in range(100):
            assert outputs(stream.receive()) == [1000.0 * (step % 10) + step]


def test_refusal_keeps_its_place_among_requests_that_are_sent_at_once(peer: Peer) -> None:
    with PeerStream(peer) as stream:
        for sequence in range(1, 101):
            stream.put(request(sequence, start=sequence % 3 > 0, id=str(sequence)))
        for sequence in range(1, 101):
            if sequence % 3:
                assert stream.receive().id == str(sequence)
                continue
            with pytest.raises(Refused, match="must specify the START flag") as refused:
                stream.receive()
            assert refused.value.request_id == str(sequence)


def test_nothing_behind_a_refusal_that_ends_the_stream_is_applied(
    server: InProcessServer, peer: Peer, records: InterruptedStore
) -> None:
    messages = [
        request(sequence, start=sequence != 16, id=str(sequence)) for sequence in range(1, 33)
    ]
    header = ("triton_grpc_error", "true")
    responses = answered_at_once(peer, records, messages, header)
    for sequence in range(1, 16):
        assert next(responses).id == str(sequence)
    with pytest.raises(grpc.RpcError, match="must specify the START flag"):
        next(responses)
    counts = next(each for each in server.observer.models if each.model == "counting")
    assert counts.created == 15


def test_server_that_stops_has_answered_all_that_it_applied(
    server: InProcessServer, peer: Peer
) -> None:
    with PeerStream(peer) as stream:
        for message in requests(10 * STEPS):
            stream.put(message)
        for _ in range(5):
            stream.receive()
        server.stop()
        rest, refused = all_that_is_received(stream)
    assert refused.reason == "DRAINING"
    counts = next(each for each in server.observer.models if each.model == "counting")
    assert counts.applied == 5 + rest


def all_that_is_received(stream: PeerStream) -> tuple[int, Refused]:
    """Returns how many responses still come, and what ends the stream."""
    count = 0
    while True:
        try:
            stream.receive()
        except Refused as refused:
            return count, refused
        count += 1


def test_caller_that_leaves_amid_its_stream_leaves_nothing_behind(
    server: InProcessServer, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        with PeerStream(peer) as stream:
            for message in requests(10):
                stream.put(message)
            stream.receive()
    wait_until(lambda: server.observer.open_streams == 0)
    gc.collect()
    # A task that failed, and that nobody awaited, would be told of there.
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    assert peer.infer(1, start=True) == [1.0]
