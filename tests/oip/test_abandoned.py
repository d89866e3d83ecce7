"""Sequences that nobody ends: they expire by themselves, and their places are free again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from doubles.counted_source import wait_until
from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.interrupted_store import InterruptedStore
from doubles.manual_clock import ManualClock
from server.serve_process import ServeProcess, resident_bytes
from tickcell.conformance.peer import SERVICE, Peer, Refused, request
from tickcell.server.config import Limits


def abandon(peer: Peer, sequences: range, **fields: Any) -> None:
    """Starts sequences, as many at a time as the transport takes, and leaves them."""

    def starts() -> Iterator[bytes]:
        for sequence in sequences:
            yield request(sequence, start=True, **fields).SerializeToString()

    method: Any = peer.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
    answered = 0
    for encoded in method(starts()):
        response = pb.ModelStreamInferResponse.FromString(encoded)
        assert not response.error_message
        answered += 1
    assert answered == len(sequences)


def starts(peer: Peer, **options: Any) -> bool:
    """Whether there is a place for one more."""
    try:
        peer.infer("the next", start=True, **options)
    except Refused as refused:
        if refused.reason != "SESSIONS_FULL":
            raise
        return False
    return True


@pytest.mark.lengthy
def test_places_of_abandoned_sequences_are_free_again(
    clock: ManualClock, records: InterruptedStore
) -> None:
    count = 2000
    with (
        InProcessServer([served(CountingCell())], records, Limits(max_sessions=count)) as server,
        Peer(server.address) as peer,
    ):
        abandon(peer, range(1, count + 1))
        assert not starts(peer)
        # Those that are alive go on, and one of them may begin anew.
        assert peer.infer(1, [5.0]) == [1005.0]
        assert peer.infer(1, [5.0], start=True) == [5.0]
        clock.advance(601.0)
        wait_until(lambda: starts(peer))
        with pytest.raises(Refused, match="SESSION_EXPIRED"):
            peer.infer(count)


@pytest.mark.slow
def test_a_hundred_thousand_abandoned_sequences_take_bounded_memory_and_go(
    tmp_path: Path,
) -> None:
    count, ttl_s = 100_000, 90
    flags = ("--store", str(tmp_path / "store"), "--max-sessions", str(count))
    with (
        ServeProcess("--listen", "localhost:0", *flags, "--oip-idle-ttl", str(ttl_s)) as server,
        Peer(server.address) as peer,
    ):
        frame = {
            "model": "drive",
            "inputs": [
                pb.ModelInferRequest.InferInputTensor(name="frames", datatype="FP32", shape=[1, 10])
            ],
            "raw_input_contents": [bytes(40)],
        }
        begun = time.monotonic()
        # More than the heads and what is remembered of sequences have room for.
        abandon(peer, range(1, 60_001), **frame)
        before = resident_bytes(server.pid)
        abandon(peer, range(60_001, count + 1), **frame)
        grown = resident_bytes(server.pid) - before
        print(f"{count} started in {time.monotonic() - begun:.0f} s, at last {grown / 1e6:.0f} MB")
        assert grown < 25e6
        wait_until(lambda: starts(peer, **frame), 2 * ttl_s + 60)
        print(f"places are free {time.monotonic() - begun:.0f} s after the first start")
