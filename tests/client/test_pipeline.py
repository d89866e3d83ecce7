"""A pipeline's streams follow one another: what one has sent, another never sends beside it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from doubles.counted_source import wait_until
from tickcell.client.life import Life, Place
from tickcell.client.link import Link
from tickcell.client.pipeline import Pipeline
from tickcell.client.pipeline_core import Cargo
from tickcell.wire import history


class SilentCall:
    """A call on which no reply comes, until it ends."""

    def __init__(self) -> None:
        self._ends = queue.SimpleQueue[None]()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._ends.get(timeout=60)
        raise StopIteration

    def cancel(self) -> None:
        """Ends it."""
        self._ends.put(None)


class SilentConnection:
    """A connection to a server that never replies.

    Attributes:
      streams: the requests and the call of each stream so far.
    """

    has_answered = False

    def __init__(self) -> None:
        self.streams: list[tuple[Iterator[Any], SilentCall]] = []

    def stream(self, _: object, session: str, requests: Iterator[Any]) -> SilentCall:
        call = SilentCall()
        self.streams.append((requests, call))
        return call


class BrokenConnection(SilentConnection):
    """A connection on which no stream can be opened, by a fault of its own."""

    def stream(self, *_: object) -> SilentCall:
        raise RuntimeError("can't start new thread")


def pipeline_over(connection: SilentConnection, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Returns a pipeline without steps whose streams go over a connection."""
    link = Link("car:1")
    monkeypatch.setattr(link.route, "connection", lambda: connection)
    monkeypatch.setattr(link.route, "failed", lambda *_: iter(()))
    cargo = Cargo(Life("car", 7, 4, 4), Place(0, history.START), [], max_chunk=4, max_waiting=4)
    return Pipeline(link, cargo)


def test_stream_that_has_ended_takes_no_step_from_the_one_that_follows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = SilentConnection()
    pipeline = pipeline_over(connection, monkeypatch)
    pipeline.push(bytes(4))
    wait_until(lambda: len(connection.streams) == 1)
    ended, call = connection.streams[0]
    assert next(ended).first_step == 0
    call.cancel()
    wait_until(lambda: len(connection.streams) == 2)
    # gRPC's thread may ask once more.
    assert next(ended, None) is None
    following, _ = connection.streams[1]
    assert next(following).first_step == 0
    pipeline.close()
    assert next(following, None) is None


def test_a_fault_in_the_thread_that_carries_is_raised_where_outputs_are_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = pipeline_over(BrokenConnection(), monkeypatch)
    pipeline.push(bytes(4))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pipeline.take(timeout_s=60)
    assert not pipeline.needs_frames
    assert pipeline.frames == [bytes(4)]
    pipeline.close()
