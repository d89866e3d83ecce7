"""A pipeline's streams follow one another: what one has sent, another never sends beside it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any, cast

import pytest

from doubles.counted_source import wait_until
from tickcell.client.backoff import Backoff
from tickcell.client.connection import Connection
from tickcell.client.life import Life, Place
from tickcell.client.link import Link
from tickcell.client.pipeline import Pipeline
from tickcell.wire import history


class SilentCall:
    """A call on which no reply comes, until it ends."""

    def __init__(self) -> None:
        self._ends = queue.SimpleQueue[None]()

    def __iter__(self) -> Iterator[Any]:
        self._ends.get(timeout=60)
        return iter(())

    def cancel(self) -> None:
        """Ends it."""
        self._ends.put(None)


class SilentLink:
    """A way to a server that never replies.

    Attributes:
      streams: the requests and the call of each stream so far.
    """

    deadline_s = 60.0

    def __init__(self) -> None:
        self.streams: list[tuple[Iterator[Any], SilentCall]] = []

    def backoff(self) -> Backoff:
        return Backoff("car:1", None)

    def stream(
        self, _: object, session: str, requests: Iterator[Any]
    ) -> tuple[Connection, SilentCall]:
        call = SilentCall()
        self.streams.append((requests, call))
        return cast("Connection", object()), call

    def failed(self, *_: object) -> None:
        """Needs to do nothing."""

    def close(self) -> None:
        """Needs to do nothing."""


def test_stream_that_has_ended_takes_no_step_from_the_one_that_follows_it() -> None:
    link = SilentLink()
    pipeline = Pipeline(
        cast("Link", link),
        Life("car", 7, 4, 4),
        Place(0, history.START),
        [],
        max_chunk=4,
        max_waiting=4,
    )
    pipeline.push(bytes(4))
    wait_until(lambda: len(link.streams) == 1)
    ended, call = link.streams[0]
    assert next(ended).first_step == 0
    call.cancel()
    wait_until(lambda: len(link.streams) == 2)
    # gRPC's thread may ask once more.
    assert next(ended, None) is None
    following, _ = link.streams[1]
    assert next(following).first_step == 0
    pipeline.close()
    assert next(following, None) is None


class BrokenLink(SilentLink):
    """A way to a server that no stream can be opened on, by a fault of its own."""

    def stream(self, *_: object) -> tuple[Connection, SilentCall]:
        raise RuntimeError("can't start new thread")


def test_a_fault_in_the_thread_that_carries_is_raised_where_outputs_are_awaited() -> None:
    pipeline = Pipeline(
        cast("Link", BrokenLink()),
        Life("car", 7, 4, 4),
        Place(0, history.START),
        [],
        max_chunk=4,
        max_waiting=4,
    )
    pipeline.push(bytes(4))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pipeline.pop(timeout_s=60)
    assert not pipeline.needs_frames
    assert pipeline.frames == [bytes(4)]
    pipeline.close()
