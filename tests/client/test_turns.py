"""A step goes by a stream or by a call: which of them, and what becomes of the stream."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell import wire
from tickcell.client import errors
from tickcell.client.due import IDLE_S, Due
from tickcell.client.life import Chunk, Life, Place
from tickcell.client.needs import Call, Close, Exchange, OpenTurns, Wait
from tickcell.client.route import Route
from tickcell.client.turns import FULL_S, Turns
from tickcell.wire import history

OUTPUT = b"\0\1\2\3"
Event = Callable[[Any], Any]
# Steps that may have no reply, from the one on that is done: it, the one behind it, or both.
OWED = [0], [0, 1], [1]


class Channel:
    """A channel of which nothing is asked."""

    def close(self) -> None:
        """Needs to do nothing."""


def channel(*_: object, **__: object) -> Channel:
    return Channel()


TRANSPORT = cast("types.ModuleType", types.SimpleNamespace(insecure_channel=channel))


class Stream:
    """A stream as the turns see it, and what they may do with it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.is_over = False
        self.is_dropped = False
        self.is_broken = False
        # The requests that have no reply, oldest first.
        self.owed: list[Any] = []

    def failure(self) -> errors.LostError:
        raise AssertionError("a driver asks for this")

    def exchange(self, _: object, __: object) -> Any:
        raise AssertionError("a driver does this")

    def drop(self) -> None:
        self.is_dropped = True


def reply(request: Any) -> Any:
    last = history.chain(request.expected_history, request.frames, 1)
    kind = wire.StreamStepsResponse
    return kind(
        session=request.session,
        generation=request.generation,
        first_step=request.first_step,
        step_count=1,
        outputs=OUTPUT,
        history=last,
    )


def wrong(request: Any) -> Any:
    other = reply(request)
    other.first_step += 1
    return other


def refused(request: Any) -> Any:
    answer = wire.StreamStepsResponse(session=request.session)
    answer.error.message = "no error of ours"
    return answer


def raises(error: BaseException) -> Event:
    def event(_: object) -> Any:
        raise error

    return event


LOST = raises(errors.LostError("broken", "UNAVAILABLE"))
OVERDUE = raises(errors.LostError("no reply", "DEADLINE_EXCEEDED"))
FULL = raises(errors.StreamsFullError("full"))
DRAINING = raises(errors.DrainingError("draining"))
CTRL_C = raises(KeyboardInterrupt())


class World:
    """A session's turns, and all that they ask for.

    Attributes:
      now: the time.
      asked: by which calls the requests went, in order: "call" or "stream".
      streams: all that were opened.
      waits: how long was waited.
      events: what the next requests meet.
    """

    def __init__(self, retry_for_s: float | None = None) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.streams: list[Stream] = []
        self.waits: list[float] = []
        self.events: list[Event] = []
        self._place = Place(0, history.START)
        self._ahead: Chunk | None = None
        self._life = Life("car", 7, 4, len(OUTPUT))
        self.turns = Turns(Route(TRANSPORT, "car:1", retry_for_s=retry_for_s), lambda: self.now)

    def step(self, *events: Event, is_followed: bool = False) -> None:
        """Does the next step; each request meets an event, and those after them a reply.

        Args:
          *events: what its requests meet.
          is_followed: whether the step after it is known already.
        """
        self.events.extend(events)
        chunk, self._ahead = self._ahead or Chunk.of(self._place, 1, b"read"), None
        after = Place(self._place.step + 1, chunk.last_history)
        following = Chunk.of(after, 1, b"read") if is_followed else None
        operation = self.turns.exchange(self._life, chunk, following)
        try:
            need = next(operation)
            while True:
                try:
                    came = self._meet(need)
                except BaseException as failure:  # noqa: BLE001 - as a driver does
                    need = operation.throw(failure)
                else:
                    need = operation.send(came)
        except StopIteration as over:
            outputs, last_history = over.value
        assert (outputs, last_history) == (OUTPUT, chunk.last_history)
        self._place, self._ahead = after, following

    def forget(self) -> None:
        """Lets the next step be another one than was sent ahead, if one was."""
        self._ahead = None

    def _meet(self, need: Any) -> Any:
        match need:
            case OpenTurns(connection, "car"):
                assert all(stream.is_dropped for stream in self.streams)
                self.streams.append(Stream(connection))
                return self.streams[-1]
            case Exchange(stream, requests, meanwhile):
                assert isinstance(stream, Stream)
                assert not stream.is_dropped
                assert not stream.is_over
                assert not stream.is_broken
                self.asked += ["stream"] * len(requests)
                stream.owed += requests
                # No reply is owed to anything else than this step and the one behind it.
                steps = [request.first_step for request in stream.owed]
                assert steps in ([self._place.step + each for each in at] for at in OWED)
                stream.is_broken = True
                meanwhile()
                came = self._event()(stream.owed.pop(0))
                stream.is_broken = False
                return came
            case Call(_, _, request, _):
                self.asked.append("call")
                return self._event()(request)
            case Wait(delay_s):
                self.waits.append(delay_s)
                self.now += delay_s
            case Close(connection):
                connection.close()
        return None

    def _event(self) -> Event:
        return self.events.pop(0) if self.events else reply


def test_the_first_step_goes_by_a_call_and_those_that_follow_by_one_stream() -> None:
    world = World()
    for _ in range(4):
        world.step()
    assert world.asked == ["call", "stream", "stream", "stream"]
    assert len(world.streams) == 1


def test_who_was_idle_steps_by_a_call_and_holds_no_stream() -> None:
    world = World()
    for pause_s in (0.0, 0.0, IDLE_S, 0.0, IDLE_S - 0.1, IDLE_S):
        world.now += pause_s
        world.step()
    assert world.asked == ["call", "stream", "call", "stream", "stream", "call"]
    assert [stream.is_dropped for stream in world.streams] == [True, True]


def test_a_stream_that_was_given_up_meanwhile_is_followed_by_another() -> None:
    world = World()
    world.step()
    world.step()
    world.streams[0].is_over = True
    world.step()
    assert world.asked == ["call", "stream", "stream"]
    assert len(world.streams) == 2


def test_a_server_without_a_place_is_asked_by_calls_and_for_a_place_again_later() -> None:
    world = World(retry_for_s=0.0)
    world.step()
    world.step(FULL)
    world.step()
    assert world.asked == ["call", "stream", "call", "call"]
    del world.asked[:]
    for _ in range(10):
        world.now += FULL_S / 10
        world.step()
    assert world.asked == [*["call"] * 9, "stream"]


@pytest.mark.parametrize("end", [LOST, DRAINING])
def test_a_stream_that_ends_is_no_failure_and_the_step_goes_by_a_call(end: Event) -> None:
    world = World(retry_for_s=0.0)
    world.step()
    world.step(end)
    world.step()
    assert world.asked == ["call", "stream", "call", "stream"]
    assert world.waits == []


def test_a_reply_that_is_overdue_counts() -> None:
    world = World(retry_for_s=0.0)
    world.step()
    with pytest.raises(errors.UnavailableError):
        world.step(OVERDUE)
    world.step()
    assert world.asked == ["call", "stream", "call"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), GeneratorExit(), SystemExit()])
def test_whatever_strikes_amid_a_step_the_stream_is_not_used_again(
    interruption: BaseException,
) -> None:
    world = World()
    world.step()
    world.step()
    with pytest.raises(type(interruption)):
        world.step(raises(interruption))
    assert world.streams[0].is_dropped
    world.step()
    assert world.asked == ["call", "stream", "stream", "stream"]


def test_a_reply_to_something_else_ends_the_stream() -> None:
    world = World()
    world.step()
    with pytest.raises(errors.ReplyError, match="expected 1 from step 1"):
        world.step(wrong)
    assert world.streams[0].is_dropped


def test_a_refusal_in_a_stream_leaves_it_open() -> None:
    world = World()
    world.step()
    with pytest.raises(errors.ReplyError, match="no error of ours"):
        world.step(refused)
    world.step()
    assert world.asked == ["call", "stream", "stream"]
    assert not world.streams[0].is_dropped


def test_what_follows_is_sent_ahead_and_once() -> None:
    world = World()
    world.step(is_followed=True)
    assert world.asked == ["call"]
    for is_followed in (True, True, False):
        world.step(is_followed=is_followed)
    assert world.asked == ["call", *["stream"] * 3]
    world.step()
    assert len(world.streams) == 1


@pytest.mark.parametrize("end", [LOST, DRAINING])
def test_a_stream_that_ends_with_two_on_their_way_is_followed_by_both_again(end: Event) -> None:
    world = World(retry_for_s=0.0)
    world.step()
    world.step(is_followed=True)
    world.step(end, is_followed=True)
    world.step()
    # The step after the first goes ahead, and so does the one after that.
    assert world.asked == ["call", *["stream"] * 3, "call", "stream"]
    assert [stream.is_dropped for stream in world.streams] == [True, False]


def test_a_refusal_waits_for_that_of_what_was_sent_ahead() -> None:
    world = World()
    world.step()
    with pytest.raises(errors.ReplyError, match="no error of ours"):
        world.step(refused, refused, is_followed=True)
    assert world.streams[0].owed == []
    world.step()
    assert world.asked == ["call", *["stream"] * 3]
    assert len(world.streams) == 1


def test_what_was_sent_ahead_and_is_not_asked_for_ends_the_stream() -> None:
    world = World()
    world.step()
    world.step(is_followed=True)
    world.forget()
    world.step()
    assert [stream.is_dropped for stream in world.streams] == [True, False]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, IDLE_S]),
        st.lists(
            st.sampled_from([reply, wrong, refused, LOST, OVERDUE, FULL, DRAINING, CTRL_C]),
            max_size=3,
        ),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


@given(EVENTS)
def test_whatever_happens_no_stream_is_used_that_may_owe_a_reply(
    events: list[tuple[float, list[Event], bool, bool, bool]],
) -> None:
    """`World` holds each request to it, and each answer to its step."""
    world = World(retry_for_s=1.0)
    for pause_s, happens, is_given_up, is_forgotten, is_followed in events:
        world.now += pause_s
        if is_given_up and world.streams:
            world.streams[-1].is_over = True
        with contextlib.suppress(errors.TickcellError, KeyboardInterrupt):
            world.step(*happens, is_followed=is_followed)
        world.events.clear()
        if is_forgotten:
            world.forget()
    world.turns.drop()
    assert all(stream.is_dropped for stream in world.streams)
    world.step()


def test_a_stream_is_due_by_its_deadline_while_a_reply_is_owed_and_by_its_idleness_else() -> None:
    due = Due(2.0, 10.0)
    assert not due.look(10.0 + IDLE_S - 0.1)
    due.begin(20.0)
    assert due.at == 22.0
    assert not due.look(21.9)
    due.end(21.9)
    assert not due.look(22.0)
    due.begin(23.0)
    assert due.look(25.0)
    assert due.failure().code == "DEADLINE_EXCEEDED"


def test_a_stream_that_was_idle_for_too_long_is_over_and_nothing_is_overdue() -> None:
    due = Due(2.0, 10.0)
    assert due.look(10.0 + IDLE_S)
    assert due.is_over
    assert due.failure().code == "OK"
