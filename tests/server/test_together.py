"""Requests of one message: one round and one commit for all, and for each an answer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.counting_cell import CountingCell
from doubles.in_process_server import served
from doubles.moody_cell import GIVES_NAN, RAISES
from server.test_driver import HEAVY, HeavyCell, answer
from server.world import RETENTION_NS, Asked, World, assert_counted, in_loop
from tickcell.server import errors
from tickcell.server.caller import ANYBODY
from tickcell.server.config import Limits
from tickcell.server.owners import Owners
from tickcell.server.pace import Pace
from tickcell.server.store import Contended, Full, StoreAwayError, Unknown, Verdict

# Whatever this machine is busy with.
QUICK = Pace(1e-6, 1e-7, is_slow=False)
NAMES = tuple(f"robot{index:03}" for index in range(256))


async def answer_together(world: World, asked: Sequence[Asked]) -> None:
    """Awaits what becomes of requests that come in one message."""
    answers = await world.server.engine.step_together([each.request for each in asked])
    for each, answered in zip(asked, answers, strict=True):
        each.answer = answered


def together(world: World, *asked: Asked) -> None:
    in_loop(answer_together(world, asked))


class TestRounds:
    def test_message_of_256_requests_is_one_round_and_one_commit(self) -> None:
        world = World(pace=QUICK)
        world.create_all(*NAMES)
        for step in range(3):
            world.store.change_counts.clear()
            world.cell.row_counts.clear()
            asked = [world.request(name, step, [place / 8]) for place, name in enumerate(NAMES)]
            together(world, *asked)
            for place, each in enumerate(asked):
                assert_counted(each, step, [place / 8])
            assert world.store.change_counts == [256]
            assert world.cell.row_counts == [256]

    def test_sessions_that_are_not_remembered_are_loaded_at_once(self) -> None:
        world = World(pace=QUICK)
        world.create_all(*NAMES)
        world.server = world.server_of(world.catalogue)
        asked = [world.request(name, 0, [1.0]) for name in NAMES]
        world.store.load_count = 0
        together(world, *asked)
        assert world.store.load_count == 1
        for each in asked:
            assert_counted(each, 0, [1.0])

    def test_long_message_goes_in_slices_and_lets_ticks_pass(self) -> None:
        world = World(cell=HeavyCell(), pace=HEAVY)
        names = [f"{name}-{part}" for part in range(2) for name in NAMES]
        world.create_all("tick", *names)
        asked = [world.request(name, 0, [1.0] * 4) for name in names]
        ticks = [world.request("tick", step, [1.0]) for step in range(8)]
        world.store.change_counts.clear()

        async def run() -> None:
            running = asyncio.create_task(answer_together(world, asked))
            await asyncio.sleep(0)
            for tick in ticks:
                await answer(world, tick)
            # 2048 rows of 20 us are 41 ms.
            assert not running.done()
            await running

        in_loop(run())
        for step, tick in enumerate(ticks):
            assert_counted(tick, step, [1.0])
        for each in asked:
            assert_counted(each, 0, [1.0] * 4)
        assert sorted(world.store.change_counts) == [1] * 8 + [256] * 2

    def test_group_of_a_model_shares_its_calls(self) -> None:
        # One call is half a slice, so that two of its own would be a round each.
        world = World(pace=Pace(0.0011, 1e-6, is_slow=False))
        world.create_all("a", "b", "c")
        world.store.change_counts.clear()
        together(world, *[world.request(name, 0, [1.0]) for name in "abc"])
        assert world.store.change_counts == [3]


class TestCallerThatLeaves:
    def test_requests_whose_caller_left_before_their_round_are_dropped(self) -> None:
        world = World()
        world.create_all("a", "b", "c")
        asked = [world.request(name, 0, [1.0]) for name in "abc"]

        async def run() -> None:
            leaving = asyncio.create_task(answer_together(world, asked))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await world.server.engine.finish(10.0)

        in_loop(run())
        assert [world.next_step(name) for name in "abc"] == [0, 0, 0]
        together(world, *asked)
        assert [world.next_step(name) for name in "abc"] == [1, 1, 1]

    def test_of_a_long_message_what_has_begun_is_applied_and_the_rest_dropped(self) -> None:
        world = World(cell=HeavyCell(), pace=HEAVY)
        names = [f"{name}-{part}" for part in range(2) for name in NAMES]
        world.create_all(*names)
        asked = [world.request(name, 0, [1.0]) for name in names]

        async def run() -> None:
            leaving = asyncio.create_task(answer_together(world, asked))
            world.store.interruptions.append(leaving.cancel)
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await world.server.engine.finish(10.0)

        in_loop(run())
        applied = [world.next_step(name) for name in names]
        assert applied == [1] * 256 + [0] * 256
        for begin in (0, 256):
            together(world, *asked[begin : begin + 256])
        for each in asked:
            assert_counted(each, 0, [1.0])


def quarters(first_step: int, count: int) -> list[float]:
    """Returns the readings of some steps, each another."""
    return [step / 4 for step in range(first_step, first_step + count)]


class TestSeveralGateways:
    def test_messages_that_share_sessions_stand_in_line_for_those(self) -> None:
        world = World()
        world.create_all(*"abcd")
        first = [world.request(name, 0, [1.0]) for name in "abc"]
        second = [world.request(name, 1, [2.0]) for name in "bc"] + [world.request("d", 0, [2.0])]
        same = [world.request(name, 0, [1.0]) for name in "abc"]

        async def run() -> None:
            await asyncio.gather(*[answer_together(world, each) for each in (first, second, same)])

        in_loop(run())
        for each in (*first, *same):
            assert_counted(each, 0, [1.0])
        assert_counted(second[0], 1, [2.0])
        assert_counted(second[1], 1, [2.0])
        assert_counted(second[2], 0, [2.0])

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from("abcd"), st.tuples(st.integers(0, 7), st.integers(1, 4)), min_size=1
            ),
            max_size=12,
        )
    )
    def test_whatever_comes_at_once_each_step_is_applied_once(
        self, plan: list[dict[str, tuple[int, int]]]
    ) -> None:
        world = World()
        world.create_all(*"abcd")
        expected = dict.fromkeys("abcd", 0)
        messages = []
        for message in plan:
            asked = []
            for name, (first, count) in message.items():
                asked.append(world.request(name, first, quarters(first, count)))
                if first <= expected[name]:
                    expected[name] = max(expected[name], first + count)
            messages.append(asked)

        async def run() -> None:
            await asyncio.gather(*[answer_together(world, asked) for asked in messages])

        in_loop(run())
        reached = dict.fromkeys("abcd", 0)
        for message, asked in zip(plan, messages, strict=True):
            for (name, (first, count)), each in zip(message.items(), asked, strict=True):
                if first > reached[name]:
                    assert isinstance(each.error, errors.StepGap)
                elif first < reached[name] - 8:
                    assert isinstance(each.error, errors.StepStale)
                else:
                    assert_counted(each, first, quarters(first, count))
                    reached[name] = max(reached[name], first + count)
        assert {name: world.next_step(name) for name in "abcd"} == reached


class Provoked(NamedTuple):
    """A request that is refused, whatever is beside it."""

    reason: type[errors.TickcellError]
    provoke: Callable[[World], Asked]


def changed(world: World, **fields: object) -> Asked:
    """Returns the next step of the session that is to be refused, with some fields changed."""
    return Asked(world.request("odd", 3, [1.0]).request._replace(**fields))  # type: ignore[arg-type]


def delete(world: World) -> Asked:
    asked = world.request("odd", 3, [1.0])
    world.sessions.delete("odd", asked.request.generation or 0)
    return asked


def expire(world: World) -> Asked:
    world.create("short", idle_ttl_ns=10**9)
    asked = world.request("short", 0, [1.0])
    world.clock.advance_ns(2 * 10**9)
    assert RETENTION_NS > 2 * 10**9
    return asked


def damage(world: World) -> Asked:
    asked = world.request("odd", 3, [1.0])
    world.store.torn = asked.request.key
    # Not to begin from what it remembers.
    world.server = world.server_of(world.catalogue)
    return asked


PROVOKED = [
    Provoked(errors.StepGap, lambda world: changed(world, first_step=4)),
    Provoked(errors.StepStale, lambda world: changed(world, first_step=0)),
    Provoked(errors.StepConflict, lambda world: world.request("odd", 2, [7.0])),
    Provoked(errors.StepConflict, lambda world: changed(world, expected_history=bytes(8))),
    Provoked(errors.ArgumentInvalid, lambda world: changed(world, first_step=-1)),
    Provoked(errors.SessionRestarted, lambda world: changed(world, generation=1)),
    Provoked(errors.FrameShape, lambda world: changed(world, step_count=0)),
    Provoked(errors.FrameShape, lambda world: changed(world, step_count=2**31 - 1)),
    Provoked(errors.FrameNotFinite, lambda world: world.request("odd", 3, [np.nan])),
    Provoked(errors.FrameOutOfRange, lambda world: world.request("odd", 3, [501.0])),
    Provoked(errors.OutputNotFinite, lambda world: world.request("odd", 3, [GIVES_NAN])),
    Provoked(errors.Internal, lambda world: world.request("odd", 3, [RAISES])),
    Provoked(errors.SessionUnknown, lambda world: changed(world, key=ANYBODY.key("nobody"))),
    Provoked(errors.SessionDeleted, delete),
    Provoked(errors.SessionExpired, expire),
    Provoked(errors.StoreDamaged, damage),
]


class TestRefusals:
    @pytest.mark.parametrize(
        "provoked",
        PROVOKED,
        ids=[f"{place}-{each.reason.__name__}" for place, each in enumerate(PROVOKED)],
    )
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_refused_request_touches_no_other(self, provoked: Provoked, place: int) -> None:
        world = World()
        world.create("odd", window=2)
        world.create_all("a", "b")
        for step in range(3):
            world.run(world.request("odd", step, [1.0]))
        refused = provoked.provoke(world)
        others = [world.request("a", 0, [1.0]), world.request("b", 0, [2.0, 3.0])]
        asked = [*others]
        asked.insert(place, refused)
        together(world, *asked)
        assert type(refused.error) is provoked.reason
        assert_counted(others[0], 0, [1.0])
        assert_counted(others[1], 0, [2.0, 3.0])
        assert (world.next_step("a"), world.next_step("b")) == (1, 2)

    def test_session_whose_model_is_not_served_touches_no_other(self) -> None:
        other = served(CountingCell(), "other")
        world = World(other)
        world.create("here")
        world.create("there", model=other)
        asked = [world.request("there", 0, [1.0]), world.request("here", 0, [2.0])]
        world.catalogue.withdraw(other.place)
        world.catalogue.drop(other.fingerprint)
        together(world, *asked)
        assert isinstance(asked[0].error, errors.ModelNotServed)
        assert_counted(asked[1], 0, [2.0])

    @pytest.mark.parametrize(
        ("trouble", "reason"),
        [
            (StoreAwayError("store: is away."), errors.StoreAway),
            (Full("no room"), errors.StoreFull),
            (Contended(), errors.StoreBusy),
            (Unknown("the disk failed"), errors.OutcomeUnknown),
        ],
    )
    def test_trouble_of_the_store_is_told_each_and_all_may_be_sent_again(
        self, trouble: Verdict | Exception, reason: type[errors.TickcellError]
    ) -> None:
        world = World()
        world.create_all("a", "b")
        asked = [world.request("a", 0, [1.0]), world.request("b", 0, [2.0])]
        world.store.trouble = trouble
        together(world, *asked)
        assert [type(each.error) for each in asked] == [reason, reason]
        world.store.trouble = None
        together(world, *asked)
        assert_counted(asked[0], 0, [1.0])
        assert_counted(asked[1], 0, [2.0])

    def test_fault_behind_the_commit_is_unknown_and_the_same_message_tells(self) -> None:
        world = World()
        world.create_all("a", "b")
        asked = [world.request("a", 0, [1.0]), world.request("b", 0, [2.0])]
        world.store.fails_behind = True
        together(world, *asked)
        assert {type(each.error) for each in asked} == {errors.OutcomeUnknown}
        world.store.fails_behind = False
        together(world, *asked)
        assert_counted(asked[0], 0, [1.0])
        assert_counted(asked[1], 0, [2.0])
        assert [world.next_step(name) for name in "ab"] == [1, 1]

    def test_writer_that_comes_between_refuses_only_its_session(self) -> None:
        world = World()
        world.create_all("a", "b", "c")
        asked = [world.request(name, 0, [1.0]) for name in "abc"]
        same, another = world.request("a", 0, [1.0]), world.request("b", 0, [9.0])
        world.store.interruptions.append(lambda: world.other.run(same, another))
        together(world, *asked)
        assert_counted(asked[0], 0, [1.0])
        assert isinstance(asked[1].error, errors.StepConflict)
        assert_counted(asked[2], 0, [1.0])

    def test_rate_of_an_owner_counts_each_request(self) -> None:
        world = World()
        world.create_all("a", "b", "c")
        world.quotas.follow(Owners.parse(b"limits.max_ticks_per_s = 0.01"))
        asked = [world.request(name, 0, [1.0]) for name in "abc"]
        together(world, *asked)
        assert_counted(asked[0], 0, [1.0])
        assert {type(each.error) for each in asked[1:]} == {errors.OwnerRateExceeded}
        assert [world.next_step(name) for name in "abc"] == [1, 0, 0]


class TestAllowance:
    LIMITS = Limits(max_request_rows=16, max_message_bytes=5000)

    @pytest.mark.parametrize("is_remembered", [True, False])
    def test_rows_of_all_requests_are_bounded_together(self, is_remembered: bool) -> None:
        world = World(limits=self.LIMITS)
        for name in "abcd":
            world.create(name, series_count=4)
        frame = np.ones((2, 4, 1), np.float32)
        asked = [world.request(name, 0, frame) for name in "abc"]
        if not is_remembered:
            world.server = world.server_of(world.catalogue)
        with pytest.raises(errors.ArgumentInvalid) as caught:
            together(world, *asked)
        assert caught.value.metadata["field"] == "requests"
        assert caught.value.metadata["got"] == "24"
        assert caught.value.metadata["max_request_rows"] == "16"
        assert [world.next_step(name) for name in "abcd"] == [0] * 4
        together(world, *asked[:2])
        for each in asked[:2]:
            assert_counted(each, 0, frame)

    def test_responses_are_bounded_together(self) -> None:
        world = World(limits=Limits(max_request_rows=8192, max_message_bytes=5000))
        for name in "abc":
            world.create(name, series_count=100)
        frames = np.ones((4, 100, 1), np.float32)
        asked = [world.request(name, 0, frames) for name in "abc"]
        with pytest.raises(errors.ArgumentInvalid) as caught:
            together(world, *asked[:2])
        # The outputs, and 1024 bytes beside each.
        assert caught.value.metadata["got"] == str(2 * (4 * 4 * 100 + 1024))
        assert caught.value.metadata["max_message_bytes"] == "5000"
        assert [world.next_step(name) for name in "abc"] == [0] * 3
        # One request alone is as long as its session takes.
        together(world, asked[0])
        assert_counted(asked[0], 0, frames)

    def test_request_that_is_refused_anyway_counts_as_a_row(self) -> None:
        world = World(limits=self.LIMITS)
        world.create("a", series_count=4)
        world.create("b")
        frames = np.ones((3, 4, 1), np.float32)
        odd = Asked(world.request("b", 0, [1.0]).request._replace(step_count=10**9))
        good = world.request("a", 0, frames)
        together(world, odd, good)
        assert isinstance(odd.error, errors.FrameShape)
        assert_counted(good, 0, frames)
