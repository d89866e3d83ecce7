"""Rounds: whoever shares one neither waits for, nor disturbs, nor mixes with another."""

from __future__ import annotations

import dataclasses
import functools
import random

import numpy as np
import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import served
from doubles.moody_cell import GIVES_NAN, LEAVES_NAN, RAISES
from server.world import World, assert_counted
from tickcell.server import errors, record
from tickcell.server.catalogue import Catalogue
from tickcell.server.config import Limits
from tickcell.server.store import Change

UPSETS = {
    RAISES: errors.Internal,
    GIVES_NAN: errors.OutputNotFinite,
    LEAVES_NAN: errors.OutputNotFinite,
}


class TestTogether:
    def test_several_requests_of_one_session_are_answered_in_their_order(self) -> None:
        world = World()
        world.create("a")
        requests = [world.request("a", step, [float(step)]) for step in range(5)]
        world.run(*requests)
        for step, request in enumerate(requests):
            assert_counted(request, step, [float(step)])

    def test_request_that_came_too_early_is_a_gap_though_its_forerunner_follows(self) -> None:
        world = World()
        world.create("a")
        late, early = world.request("a", 1, [1.0]), world.request("a", 0, [0.0])
        world.run(late, early)
        assert isinstance(late.error, errors.StepGap)
        assert_counted(early, 0, [0.0])

    def test_copies_of_one_request_are_applied_once(self) -> None:
        world = World()
        world.create("a")
        copies = [world.request("a", 0, [1.0, 2.0]) for _ in range(3)]
        world.run(*copies)
        for copy in copies:
            assert_counted(copy, 0, [1.0, 2.0])
        assert world.next_step("a") == 2
        assert world.cell.row_counts == [1, 1]

    def test_of_two_frames_for_one_step_the_first_to_arrive_wins(self) -> None:
        world = World()
        world.create("a")
        first, second = world.request("a", 0, [1.0]), world.request("a", 0, [2.0])
        world.run(first, second)
        assert_counted(first, 0, [1.0])
        assert isinstance(second.error, errors.StepConflict)

    def test_sessions_of_any_shape_keep_their_own_rows(self) -> None:
        world = World()
        chance = np.random.default_rng(1)
        shapes = {"a": (1, 1), "b": (3, 4), "c": (8, 2), "d": (5, 1), "e": (1, 7)}
        requests = []
        for session, (steps, series) in shapes.items():
            world.create(session, series)
            frames = chance.integers(0, 300, (steps, series, 1)).astype(np.float32)
            requests.append((world.request(session, 0, frames), frames))
        world.run(*[request for request, _ in requests])
        for request, frames in requests:
            assert_counted(request, 0, frames)

    def test_new_and_partly_stored_requests_share_a_round(self) -> None:
        world = World()
        world.create_all("a", "b")
        world.run(world.request("a", 0, [1.0, 2.0, 3.0]))
        overlap = world.request("a", 1, [2.0, 3.0, 4.0, 5.0])
        new = world.request("b", 0, [6.0, 7.0, 8.0])
        world.run(overlap, new)
        assert_counted(overlap, 1, [2.0, 3.0, 4.0, 5.0])
        assert_counted(new, 0, [6.0, 7.0, 8.0])

    def test_new_step_behind_stored_ones_shares_a_call_with_ticks(self) -> None:
        world = World()
        world.create_all("a", "b")
        world.run(world.request("a", 0, [1.0, 2.0]))
        world.cell.row_counts.clear()
        behind, tick = world.request("a", 0, [1.0, 2.0, 3.0]), world.request("b", 0, [6.0])
        world.run(behind, tick)
        assert world.cell.row_counts == [2]
        assert_counted(behind, 0, [1.0, 2.0, 3.0])
        assert_counted(tick, 0, [6.0])

    def test_two_models_in_one_round_step_their_own_sessions(self) -> None:
        wide = served(CountingCell(3), "wide")
        world = World(wide)
        world.create("a")
        world.create("b", model=wide)
        frames = np.array([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]], np.float32)
        narrow_request, wide_request = world.request("a", 0, [9.0]), world.request("b", 0, frames)
        world.run(narrow_request, wide_request)
        assert_counted(narrow_request, 0, [9.0])
        assert_counted(wide_request, 0, frames)

    def test_a_step_of_all_sessions_is_one_call_of_the_cell_and_one_commit(self) -> None:
        world = World()
        world.create_all("a", "b", "c")
        world.store.change_counts.clear()
        world.run(
            world.request("a", 0, [1.0]),
            world.request("b", 0, [1.0, 2.0]),
            world.request("c", 0, [1.0, 2.0, 3.0]),
        )
        assert world.cell.row_counts == [3, 2, 1]
        assert world.store.change_counts == [3]

    def test_answers_are_right_whoever_shares_the_rounds(self) -> None:
        chance = random.Random(7)
        world = World()
        sessions = {f"s{index}": chance.choice([1, 1, 1, 2, 5]) for index in range(30)}
        for session, series in sessions.items():
            world.create(session, series)
        expected = dict.fromkeys(sessions, 0)
        for _ in range(100):
            asked = []
            for session in chance.choices(list(sessions), k=chance.randint(1, 12)):
                shape = (chance.randint(1, 8), sessions[session], 1)
                frames = np.full(shape, chance.randint(0, 300), np.float32)
                asked.append((world.request(session, expected[session], frames), frames))
                expected[session] += len(frames)
            world.run(*[request for request, _ in asked])
            for request, frames in asked:
                assert_counted(request, request.request.first_step or 0, frames)


class TestIsolation:
    @pytest.mark.parametrize("upset", UPSETS)
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_session_that_upsets_the_cell_is_refused_alone(self, upset: float, place: int) -> None:
        world = World()
        world.create_all("a", "b", "c")
        requests = [world.request(session, 0, [1.0, 2.0]) for session in "abc"]
        session = "abc"[place]
        requests[place] = world.request(session, 0, [1.0, upset])
        world.run(*requests)
        for index, request in enumerate(requests):
            if index == place:
                assert type(request.error) is UPSETS[upset]
            else:
                assert_counted(request, 0, [1.0, 2.0])
        assert world.next_step(session) == 0
        again = world.request(session, 0, [1.0, 2.0])
        world.run(again)
        assert_counted(again, 0, [1.0, 2.0])

    @pytest.mark.parametrize("upset", UPSETS)
    def test_session_that_upsets_the_cell_is_refused_where_it_is_alone(self, upset: float) -> None:
        world = World()
        world.create("a")
        world.run(world.request("a", 0, [1.0]))
        before = world.sessions.get("a")
        request = world.request("a", 0, [1.0, 2.0, upset])
        world.run(request)
        assert type(request.error) is UPSETS[upset]
        assert world.sessions.get("a") == before

    def test_fault_in_the_midst_of_a_round_applies_no_request_twice(self) -> None:
        world = World()
        world.create_all("a", "b")
        requests = [
            world.request("a", 0, [1.0]),
            world.request("b", 0, [RAISES]),
            world.request("a", 1, [2.0]),
        ]
        world.run(*requests)
        assert_counted(requests[0], 0, [1.0])
        assert isinstance(requests[1].error, errors.Internal)
        assert_counted(requests[2], 1, [2.0])
        assert world.next_step("a") == 2

    def test_damaged_record_is_refused_alone(self) -> None:
        world = World()
        world.create_all("a", "b")
        damaged, right = world.request("a", 0, [1.0]), world.request("b", 0, [1.0])
        key = damaged.request.key
        (encoded,) = world.store.load([key])
        assert encoded is not None
        world.store.commit([Change(key, encoded, b"x" + encoded[1:])])
        world.run(damaged, right)
        assert isinstance(damaged.error, errors.RecordDamaged)
        assert_counted(right, 0, [1.0])

    def test_request_beyond_the_bound_of_rows_is_refused_alone(self) -> None:
        world = World(limits=Limits(max_request_rows=20))
        world.create("a", 4)
        world.create("b", 4)
        most = np.ones((5, 4, 1), np.float32)
        more = np.ones((6, 4, 1), np.float32)
        within, beyond = world.request("a", 0, most), world.request("b", 0, more)
        world.run(within, beyond)
        assert_counted(within, 0, most)
        assert isinstance(beyond.error, errors.FrameShape)
        assert beyond.error.metadata["max_step_count"] == "5"


class TestOtherWriters:
    """Another server on the store commits between this one's load and its commit."""

    def test_who_lost_with_the_same_frame_gets_the_same_outputs(self) -> None:
        world = World()
        world.create_all("a", "b")
        ours, other, bystander = (
            world.request("a", 0, [1.0, 2.0]),
            world.request("a", 0, [1.0]),
            world.request("b", 0, [3.0]),
        )
        world.store.interruptions.append(lambda: world.other.run(other))
        world.run(ours, bystander)
        assert_counted(other, 0, [1.0])
        assert_counted(ours, 0, [1.0, 2.0])
        assert_counted(bystander, 0, [3.0])
        assert world.next_step("a") == 2

    def test_who_lost_with_another_frame_gets_a_conflict(self) -> None:
        world = World()
        world.create_all("a", "b")
        ours, other, bystander = (
            world.request("a", 0, [1.0]),
            world.request("a", 0, [2.0]),
            world.request("b", 0, [3.0]),
        )
        world.store.interruptions.append(lambda: world.other.run(other))
        world.run(ours, bystander)
        assert isinstance(ours.error, errors.StepConflict)
        assert_counted(other, 0, [2.0])
        assert_counted(bystander, 0, [3.0])
        assert world.next_step("a") == 1

    def test_who_lost_again_and_again_is_applied_in_the_end(self) -> None:
        world = World()
        world.create("a")
        frames = [1.0, 2.0, 3.0, 4.0, 5.0]
        for step in range(4):
            other = world.request("a", step, [frames[step]])
            world.store.interruptions += [functools.partial(world.other.run, other), int]
        ours = world.request("a", 0, frames)
        world.run(ours)
        assert_counted(ours, 0, frames)
        assert world.next_step("a") == 5

    def test_who_lost_goes_before_what_its_session_sent_later(self) -> None:
        world = World()
        generation = world.create("a").life.generation
        requests = [world.request("a", step, [float(step)]) for step in range(3)]
        world.clock.advance(1.0)
        world.store.interruptions.append(lambda: world.other.sessions.touch("a", generation))
        world.run(*requests)
        for step, request in enumerate(requests):
            assert_counted(request, step, [float(step)])

    def test_step_of_a_session_deleted_meanwhile_is_refused(self) -> None:
        world = World()
        generation = world.create("a").life.generation
        ours = world.request("a", 0, [1.0])
        world.store.interruptions.append(lambda: world.other.sessions.delete("a", generation))
        world.run(ours)
        assert isinstance(ours.error, errors.SessionDeleted)

    def test_step_of_a_session_reset_meanwhile_is_refused(self) -> None:
        world = World()
        generation = world.create("a").life.generation
        ours = world.request("a", 0, [1.0])
        world.store.interruptions.append(
            lambda: world.other.sessions.reset("a", generation, "again")
        )
        world.run(ours)
        assert isinstance(ours.error, errors.SessionRestarted)
        assert world.next_step("a") == 0

    def test_session_created_twice_at_once_is_created_once(self) -> None:
        world = World()
        world.store.interruptions.append(lambda: world.create("a", server=world.other))
        with pytest.raises(errors.SessionExists):
            world.create("a")

    def test_deletion_of_a_session_that_steps_meanwhile_deletes_it(self) -> None:
        world = World()
        generation = world.create("a").life.generation
        world.store.interruptions.append(lambda: world.other.run(world.request("a", 0, [1.0])))
        world.sessions.delete("a", generation)
        with pytest.raises(errors.SessionDeleted) as caught:
            world.sessions.get("a")
        assert caught.value.metadata["next_step"] == "1"


class TestStoredWhateverIsMissing:
    """A request that is wholly stored is answered, whatever the state of model or disk."""

    def test_full_store_refuses_new_steps_and_answers_stored_ones(self) -> None:
        world = World()
        world.create_all("a", "b")
        world.run(world.request("a", 0, [1.0, 2.0]))
        world.store.is_full = True
        stored, new, partly = (
            world.request("a", 0, [1.0, 2.0]),
            world.request("b", 0, [1.0]),
            world.request("a", 1, [2.0, 3.0]),
        )
        world.run(stored, new, partly)
        assert_counted(stored, 0, [1.0, 2.0])
        assert isinstance(new.error, errors.StoreFull)
        assert isinstance(partly.error, errors.StoreFull)
        world.store.is_full = False
        world.run(new, partly)
        assert_counted(new, 0, [1.0])
        assert_counted(partly, 1, [2.0, 3.0])

    def test_model_that_is_not_served_any_more_answers_stored_steps(self) -> None:
        world = World()
        world.create("a")
        world.run(world.request("a", 0, [1.0]))
        other = world.server_of(Catalogue([served(CountingCell(), "another")]))
        stored, new = world.request("a", 0, [1.0]), world.request("a", 1, [2.0])
        other.run(stored, new)
        assert_counted(stored, 0, [1.0])
        assert isinstance(new.error, errors.ModelNotServed)
        assert new.error.metadata["model_fingerprint"] == world.model.fingerprint

    def test_strict_server_under_other_numerics_answers_stored_steps_only(self) -> None:
        world, other = world_and_other_numerics()
        strict = world.server_of(other, is_strict=True)
        stored, new = world.request("a", 0, [1.0]), world.request("a", 1, [2.0])
        strict.run(stored, new)
        assert_counted(stored, 0, [1.0])
        assert isinstance(new.error, errors.NumericsChanged)
        assert new.error.metadata["next_step"] == "1"
        assert world.next_step("a") == 1


def test_session_that_goes_on_under_other_numerics_says_from_which_step() -> None:
    world, other = world_and_other_numerics()
    elsewhere = world.server_of(other)
    request = world.request("a", 1, [2.0, 3.0])
    elsewhere.run(request)
    assert_counted(request, 1, [2.0, 3.0])
    gone_on = world.sessions.get("a")
    assert gone_on.numerics_start_step == 1
    assert gone_on.numerics == b"elsewher"


def test_session_that_is_reset_begins_anew_under_the_numerics_of_its_server() -> None:
    world, other = world_and_other_numerics()
    elsewhere = world.server_of(other)
    elsewhere.run(world.request("a", 1, [2.0]))
    generation = world.sessions.get("a").life.generation
    anew = world.sessions.reset("a", generation, "back again")
    assert (anew.numerics, anew.numerics_start_step) == (world.model.numerics, 0)


def test_warning_of_other_numerics_comes_once_a_session(caplog: pytest.LogCaptureFixture) -> None:
    world, other = world_and_other_numerics()
    elsewhere = world.server_of(other)
    for step in (1, 2, 3):
        elsewhere.run(world.request("a", step, [2.0]))
    assert len(caplog.records) == 1
    assert "from step 1" in caplog.text


def world_and_other_numerics() -> tuple[World, Catalogue]:
    """Returns a world with a session at step 1, and its model as another machine has it."""
    world = World()
    world.create("a")
    world.run(world.request("a", 0, [1.0]))
    return world, Catalogue([dataclasses.replace(world.model, numerics=b"elsewher")])


def test_time_stands_still_for_all_that_is_in_a_round() -> None:
    world = World()
    world.create_all("a", "b")
    world.clock.advance(5.0)
    world.run(world.request("a", 0, [1.0]), world.request("b", 0, [1.0]))
    renewed: list[record.Record] = [world.sessions.get(session) for session in "ab"]
    assert [found.renew_ns for found in renewed] == [world.clock.now_ns()] * 2
