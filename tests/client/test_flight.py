"""What is in flight is in order, bounded by the window, and sent again from where it was lost."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from tickcell.client.flight import Flight
from tickcell.client.life import Chunk, Place
from tickcell.wire import history


def frame(step: int) -> bytes:
    return struct.pack("<f", step)


def flight_of(frames: int, window: int = 4, first_step: int = 0) -> Flight:
    flight = Flight(Place(first_step, history.START), window)
    for step in range(first_step, first_step + frames):
        assert flight.push([frame(step)]) == step
    return flight


def have(flight: Flight) -> None:
    """Gives the caller the next output."""
    assert flight.outputs() is not None
    flight.first += 1
    flight.forget()


def output_of(flight: Flight) -> bytes | None:
    """Returns the output of the first step that the caller does not have."""
    outputs = flight.outputs()
    return None if outputs is None else outputs[:4]


def answer(flight: Flight, chunk: Chunk) -> None:
    """Answers a chunk as a server does that returns its frames."""
    assert flight.unanswered == chunk
    last = history_of(chunk.first_step + chunk.step_count)
    assert chunk.last_history in (None, last)
    flight.answer(chunk.frames, last, 0.0)


def steps_of(chunk: Chunk) -> tuple[int, int, bytes]:
    """Returns the first step of a chunk, how many it has, and their frames."""
    return chunk.first_step, chunk.step_count, chunk.frames


def history_of(step: int) -> bytes:
    """Returns the history before a step."""
    frames = b"".join(map(frame, range(step)))
    return history.chain(history.START, frames, step)[-history.SIZE :] if step else history.START


def test_steps_go_out_in_order_in_chunks() -> None:
    flight = flight_of(4)
    assert [steps_of(flight.send(3)), steps_of(flight.send(3))] == [
        (0, 3, frame(0) + frame(1) + frame(2)),
        (3, 1, frame(3)),
    ]


def test_no_more_than_the_window_is_sent() -> None:
    flight = flight_of(9, window=4)
    assert (flight.send(100).step_count, flight.can_send) == (4, False)


def test_an_answer_alone_makes_no_room() -> None:
    flight = flight_of(9, window=4)
    answer(flight, flight.send(4))
    assert not flight.can_send


def test_an_output_that_the_caller_has_makes_room() -> None:
    flight = flight_of(9, window=4)
    answer(flight, flight.send(4))
    have(flight)
    assert flight.send(4).first_step == 4


def test_outputs_come_in_order() -> None:
    flight = flight_of(3)
    answer(flight, flight.send(2))
    answer(flight, flight.send(2))
    outputs = []
    while (output := output_of(flight)) is not None:
        outputs.append(output)
        have(flight)
    assert outputs == [frame(0), frame(1), frame(2)]


def test_after_a_rewind_the_unanswered_steps_are_sent_again() -> None:
    flight = flight_of(4)
    answer(flight, flight.send(1))
    lost = flight.send(3)
    flight.rewind()
    assert flight.send(3) == lost


def test_after_a_rewind_nothing_is_waited_for() -> None:
    flight = flight_of(4)
    flight.send(3)
    flight.rewind()
    assert flight.unanswered is None


def test_the_oldest_chunk_is_answered_first() -> None:
    flight = flight_of(4)
    first = flight.send(2)
    flight.send(2)
    assert flight.unanswered == first


def test_frames_are_kept_until_the_caller_has_the_output() -> None:
    flight = flight_of(2)
    answer(flight, flight.send(2))
    have(flight)
    assert flight.frames() == [frame(1)]


def test_an_output_is_had_by_moving_the_first_step_and_freed_later() -> None:
    flight = flight_of(2)
    answer(flight, flight.send(2))
    flight.first += 1
    assert (flight.frames(), flight.waiting, flight.outputs()) == ([frame(1)], 1, frame(1))
    flight.forget()
    assert (flight.frames(), flight.waiting, flight.outputs()) == ([frame(1)], 1, frame(1))
    flight.first += 1
    flight.forget()
    assert (flight.frames(), flight.waiting, flight.outputs()) == ([], 0, None)


def test_outputs_that_were_answered_together_are_there_together_up_to_half_a_window() -> None:
    flight = flight_of(4)
    answer(flight, flight.send(3))
    answer(flight, flight.send(1))
    assert flight.outputs() == frame(0) + frame(1)
    have(flight)
    assert flight.outputs() == frame(1) + frame(2)
    flight.first = 3
    assert flight.outputs() == frame(3)


def test_a_flight_may_begin_with_frames_that_wait() -> None:
    flight = Flight(Place(7, None), 4, frames=[frame(7), frame(8)])
    assert (flight.push([frame(9)]), steps_of(flight.send(9))) == (
        9,
        (7, 3, frame(7) + frame(8) + frame(9)),
    )


def test_those_behind_a_frame_that_is_dropped_move_up() -> None:
    flight = flight_of(4)
    answer(flight, flight.send(1))
    have(flight)
    flight.send(3)
    flight.drop()
    assert (flight.first, flight.end) == (1, 3)
    assert steps_of(flight.send(9)) == (1, 2, frame(2) + frame(3))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_every_step_comes_once_and_the_server_still_has_it(seed: int) -> None:
    chance = random.Random(seed)
    window, steps = chance.randint(1, 8), 300
    start = chance.choice([None, history.START])
    flight = Flight(Place(0, start), window)
    applied, on_the_way = 0, []
    outputs: list[Any] = []
    while len(outputs) < steps:
        match chance.choice(["push", "push", "send", "send", "apply", "pop", "cut"]):
            case "push" if flight.end < steps:
                flight.push([frame(flight.end)])
            case "send" if flight.can_send:
                on_the_way.append(flight.send(chance.randint(1, window)))
            case "apply" if on_the_way:
                chunk = on_the_way.pop(0)
                # As the contract has it: no gap, and nothing from before the window.
                assert applied - window <= chunk.first_step <= applied
                applied = max(applied, chunk.first_step + chunk.step_count)
                if chance.random() < 0.8:
                    answer(flight, chunk)
                else:
                    on_the_way.clear()
                    flight.rewind()
            case "pop" if flight.outputs() is not None:
                outputs.append(output_of(flight))
                have(flight)
                step, before = flight.place
                assert step == len(outputs)
                assert before in {history_of(step)} | ({None} if start is None else set())
            case "cut":
                on_the_way.clear()
                flight.rewind()
    assert outputs == [frame(step) for step in range(steps)]


def test_each_chunk_expects_the_history_of_the_frames_before_it() -> None:
    flight = flight_of(4)
    chunks = [flight.send(1), flight.send(2), flight.send(1)]
    assert [chunk.expected_history for chunk in chunks] == [history_of(step) for step in (0, 1, 3)]
    answer(flight, chunks[0])
    flight.rewind()
    assert flight.send(3).expected_history == history_of(1)


def test_history_that_is_not_known_is_learnt_from_the_next_answer() -> None:
    flight = Flight(Place(0, None), 4, frames=map(frame, range(4)))
    first, second = flight.send(1), flight.send(1)
    assert (first.expected_history, second.expected_history) == (None, None)
    answer(flight, first)
    answer(flight, second)
    have(flight)
    assert flight.place == (1, history_of(1))
    assert flight.send(2).expected_history == history_of(2)
