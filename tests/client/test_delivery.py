"""What is sent, sent again and given up: the client's decisions, against any network."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from tickcell import wire
from tickcell.client import errors
from tickcell.client.backoff import Backoff
from tickcell.client.delivery import Delivery, Outputs
from tickcell.client.life import Chunk, Life, Place
from tickcell.wire import history

LOST = errors.LostError("UNAVAILABLE: cut", "UNAVAILABLE")


@dataclasses.dataclass
class Time:
    now: float = 100.0


def frame(index: int) -> bytes:
    return struct.pack("<f", index)


def delivery_of(
    frames: int = 0,
    *,
    window: int = 4,
    max_chunk: int = 4,
    max_waiting: int = 100,
    retry_for_s: float | None = None,
    first_step: int = 0,
    time: Time | None = None,
) -> Delivery:
    moment = time or Time()
    made = Delivery(
        Life("car", 7, window, 4),
        Place(first_step, history.START),
        [],
        max_chunk=max_chunk,
        max_waiting=max_waiting,
        deadline_s=5.0,
        backoff=Backoff("car:1", retry_for_s, lambda: moment.now),
    )
    for index in range(frames):
        made.push(frame(index))
    return made


def reply_to(chunk: Chunk, outputs: bytes | None = None) -> wire.StreamStepsResponse:
    """What a server replies whose outputs are its frames."""
    return wire.StreamStepsResponse(
        session="car",
        generation=7,
        first_step=chunk.first_step,
        step_count=chunk.step_count,
        outputs=chunk.frames if outputs is None else outputs,
        history=chunk.last_history,
    )


def refusal_of(reason: str, **metadata: str) -> wire.StreamStepsResponse:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="tickcell", metadata=metadata))
    return wire.StreamStepsResponse(
        error=status_pb2.Status(code=3, message=f"refused: {reason}", details=[detail])
    )


def refuse(delivery: Delivery, reason: str) -> float | None:
    """Refuses what was sent, and ends the stream."""
    with pytest.raises(errors.RefusedError) as refused:
        delivery.accept(refusal_of(reason), 0.0)
    return delivery.ended(refused.value)


def outputs_of(delivery: Delivery) -> list[bytes]:
    """Takes the outputs that are there."""
    outputs = []
    while (output := output_of(delivery)) is not None:
        outputs.append(output)
        delivery.flight.first += 1
    return outputs


def output_of(delivery: Delivery) -> bytes | None:
    """Returns the output of the first step that the caller lacks."""
    outputs = delivery.outputs()
    if outputs is None:
        return None
    assert outputs.first_step == delivery.flight.first
    return outputs.data[:4]


def send(delivery: Delivery, now: float = 0.0) -> Chunk:
    chunk = delivery.chunk(now)
    assert chunk is not None
    return chunk


def extent(chunk: Chunk) -> tuple[int, int]:
    """Returns the first step of a chunk, and how many it has."""
    return chunk.first_step, chunk.step_count


def test_an_output_is_there_until_the_caller_has_it() -> None:
    delivery = delivery_of(1, first_step=5)
    assert delivery.outputs() is None
    delivery.accept(reply_to(send(delivery)), 0.0)
    assert delivery.outputs() == delivery.outputs() == Outputs(5, frame(0))
    delivery.flight.first = 6
    assert delivery.outputs() is None


def test_after_a_lost_stream_the_unanswered_are_sent_again() -> None:
    delivery = delivery_of(3, max_chunk=1)
    delivery.accept(reply_to(send(delivery)), 0.0)
    lost = send(delivery)
    assert delivery.ended(LOST) == 0.05
    delivery.opened()
    assert send(delivery) == lost


def test_room_that_is_made_output_by_output_is_filled_by_the_chunk() -> None:
    delivery = delivery_of(20, window=8, max_chunk=4)
    for _ in range(2):
        delivery.accept(reply_to(send(delivery)), 0.0)
    assert delivery.chunk(0.0) is None
    for _ in range(3):
        delivery.flight.first += 1
        assert not delivery.can_send
    delivery.flight.first += 1
    assert extent(send(delivery)) == (8, 4)


def test_room_is_not_waited_for_where_the_caller_has_all_outputs() -> None:
    delivery = delivery_of(20, window=3, max_chunk=2)
    delivery.accept(reply_to(send(delivery)), 0.0)
    # One more is on its way, and the caller takes what is there.
    assert send(delivery).step_count == 1
    delivery.flight.first += 2
    assert extent(send(delivery)) == (3, 2)


def test_a_frame_alone_is_sent_at_once_however_little_room_there_is() -> None:
    delivery = delivery_of(7, window=8, max_chunk=4)
    for _ in range(2):
        delivery.accept(reply_to(send(delivery)), 0.0)
    delivery.push(frame(7))
    assert extent(send(delivery)) == (7, 1)


def test_a_reply_is_overdue_from_when_it_was_owed() -> None:
    delivery = delivery_of(2, max_chunk=1)
    assert delivery.overdue_at is None
    first = send(delivery, now=10.0)
    send(delivery, now=12.0)
    assert delivery.overdue_at == 15.0
    delivery.accept(reply_to(first), 13.0)
    assert delivery.overdue_at == 18.0
    delivery.ended(delivery.overdue())
    delivery.opened()
    assert delivery.overdue_at is None


def test_a_server_that_goes_while_nothing_is_owed_is_no_failure() -> None:
    delivery = delivery_of(1, retry_for_s=0.0)
    delivery.accept(reply_to(send(delivery)), 0.0)
    assert delivery.ended(LOST) == 0.0
    assert not delivery.has_failed


def test_when_patience_ends_the_outputs_before_come_first() -> None:
    delivery = delivery_of(2, max_chunk=1, retry_for_s=0.0)
    delivery.accept(reply_to(send(delivery)), 0.0)
    send(delivery)
    assert delivery.ended(LOST) is None
    assert delivery.outputs() == Outputs(0, frame(0))
    delivery.flight.first = 1
    with pytest.raises(errors.UnavailableError):
        delivery.outputs()
    assert delivery.chunk(0.0) is None
    assert delivery.flight.frames() == [frame(1)]


def test_a_refused_chunk_is_sent_step_by_step_to_find_the_one() -> None:
    delivery = delivery_of(3)
    assert send(delivery).step_count == 3
    assert refuse(delivery, "FRAME_NOT_FINITE") == 0.0
    delivery.opened()
    delivery.accept(reply_to(send(delivery)), 0.0)
    assert send(delivery).step_count == 1
    assert refuse(delivery, "FRAME_NOT_FINITE") is None
    assert outputs_of_before_failure(delivery) == [frame(0)]


def outputs_of_before_failure(delivery: Delivery) -> list[bytes]:
    """Takes the outputs that come before a refusal."""
    outputs: list[bytes] = []
    try:
        while (output := output_of(delivery)) is not None:
            outputs.append(output)
            delivery.flight.first += 1
    except errors.RefusedError:
        return outputs
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("reason", ["FRAME_NOT_FINITE", "FRAME_OUT_OF_RANGE", "OUTPUT_NOT_FINITE"])
def test_a_frame_that_is_refused_for_what_it_is_takes_no_step(reason: str) -> None:
    delivery = delivery_of(3, max_chunk=1)
    send(delivery)
    assert refuse(delivery, reason) is None
    assert outputs_of_before_failure(delivery) == []
    assert delivery.drop_refused()
    delivery.opened()
    assert send(delivery) == Chunk.of(Place(0, history.START), 1, frame(1))
    assert delivery.flight.end == 2


def test_once_the_refused_frame_is_dropped_chunks_are_whole_again() -> None:
    delivery = delivery_of(4)
    for _ in range(2):
        delivery.opened()
        send(delivery)
        refuse(delivery, "FRAME_NOT_FINITE")
    assert delivery.drop_refused()
    delivery.opened()
    assert send(delivery).step_count == 3


@pytest.mark.parametrize("reason", ["SESSION_DELETED", "STEP_CONFLICT", "STEP_GAP", "STEP_STALE"])
def test_a_refusal_that_is_not_the_frame_s_fault_keeps_it(reason: str) -> None:
    delivery = delivery_of(3, max_chunk=1)
    send(delivery)
    assert refuse(delivery, reason) is None
    assert not delivery.drop_refused()
    assert delivery.has_failed
    assert len(delivery.flight.frames()) == 3


@pytest.mark.parametrize(
    "reply",
    [
        wire.StreamStepsResponse(session="bus", generation=7, step_count=1, outputs=frame(0)),
        wire.StreamStepsResponse(session="car", generation=8, step_count=1, outputs=frame(0)),
        wire.StreamStepsResponse(session="car", generation=7, first_step=1, step_count=1),
        wire.StreamStepsResponse(session="car", generation=7, step_count=1, outputs=b"short"),
    ],
)
def test_a_reply_to_something_else_is_never_taken(reply: wire.StreamStepsResponse) -> None:
    delivery = delivery_of(1)
    send(delivery)
    with pytest.raises(errors.ReplyError):
        delivery.accept(reply, 0.0)
    assert delivery.outputs() is None


def test_more_than_may_wait_is_not_taken() -> None:
    delivery = delivery_of(3, max_waiting=3)
    with pytest.raises(errors.BacklogError, match="step 3 was not taken"):
        delivery.push(frame(3))
    assert delivery.flight.end == 3


EVENTS = st.lists(
    st.sampled_from(
        [
            "push",
            "push",
            "send",
            "send",
            "serve",
            "serve",
            "take",
            "cut",
            "lose reply",
            "full",
            "put back",
        ]
    ),
    max_size=200,
)


@given(
    events=EVENTS,
    window=st.integers(1, 6),
    max_chunk=st.integers(1, 6),
    bad=st.sets(st.integers(0, 60), max_size=4),
)
@example(events=["push", "push", "send", "send", "serve"], window=2, max_chunk=1, bad={1})
def test_whatever_the_network_does_each_good_frame_is_applied_once_and_answered_in_order(
    events: list[str], window: int, max_chunk: int, bad: set[int]
) -> None:
    """A server of the contract, whose outputs are its frames, behind a network that loses."""
    network = Network(delivery_of(window=window, max_chunk=min(max_chunk, window)), window, bad)
    settle = ["serve", "send", "take"] * 200
    # A store that is put back after the last answer is healed with the next step that is good.
    for event in [*events, *settle, *["push"] * (len(bad) + 1), *settle]:
        getattr(network, event.replace(" ", "_"))()
    good = [index for index in range(network.pushed) if index not in bad]
    assert network.applied == network.taken == [frame(index) for index in good]
    assert network.refused == len([index for index in range(network.pushed) if index in bad])
    assert not network.delivery.flight.waiting


class Network:
    """One session on a server, and all that can happen on the way there and back."""

    def __init__(self, delivery: Delivery, window: int, bad: set[int]) -> None:
        self.delivery = delivery
        self.applied: list[bytes] = []
        self.taken: list[bytes] = []
        self.pushed = self.refused = 0
        self._window = window
        self._bad = {frame(index) for index in bad}
        self._on_the_way: list[Chunk] = []

    def push(self) -> None:
        self.delivery.push(frame(self.pushed))
        self.pushed += 1

    def send(self) -> None:
        chunk = self.delivery.chunk(0.0)
        if chunk is not None:
            self._on_the_way.append(chunk)

    def serve(self, *, loses_reply: bool = False) -> None:
        if not self._on_the_way:
            return
        chunk = self._on_the_way.pop(0)
        if chunk.first_step > len(self.applied):
            self._refuse("STEP_GAP", next_step=str(len(self.applied)))
            return
        frames = [chunk.frames[at : at + 4] for at in range(0, len(chunk.frames), 4)]
        before = history.START
        for applied in self.applied[: chunk.first_step]:
            before = history.chain(before, applied, 1)
        assert chunk.expected_history == before
        stored = len(self.applied) - chunk.first_step
        # As the contract has it: no gap, and nothing from before the window.
        assert 0 <= stored <= self._window
        assert self.applied[chunk.first_step :][: len(frames)] == frames[:stored]
        if self._bad & {*frames[stored:]}:
            self._refuse("FRAME_NOT_FINITE")
            return
        self.applied += frames[stored:]
        if loses_reply:
            self.cut()
        else:
            self.delivery.accept(reply_to(chunk), 0.0)

    def lose_reply(self) -> None:
        self.serve(loses_reply=True)

    def cut(self) -> None:
        self._end(LOST)

    def full(self) -> None:
        if self._on_the_way:
            self._refuse("STREAMS_FULL")

    def take(self) -> None:
        try:
            while (output := output_of(self.delivery)) is not None:
                self.taken.append(output)
                self.delivery.flight.first += 1
        except errors.FrameNotFiniteError:
            assert self.delivery.drop_refused()
            self.refused += 1

    def put_back(self) -> None:
        """Loses the newest steps, of which the client keeps all."""
        del self.applied[len(self.applied) // 2 :]

    def _refuse(self, reason: str, **metadata: str) -> None:
        with pytest.raises(errors.RefusedError) as refused:
            self.delivery.accept(refusal_of(reason, **metadata), 0.0)
        self._end(refused.value)

    def _end(self, failure: errors.TickcellError) -> None:
        self._on_the_way = []
        if not self.delivery.has_failed:
            self.delivery.ended(failure)
        self.delivery.opened()


def test_a_store_that_was_put_back_to_before_what_is_kept_is_a_gap_that_names_the_steps() -> None:
    delivery = delivery_of(4, first_step=10)
    delivery.accept(reply_to(send(delivery)), 0.0)
    assert outputs_of(delivery) == [frame(index) for index in range(4)]
    delivery.push(frame(4))
    send(delivery)
    with pytest.raises(errors.StepGapError) as gap:
        delivery.accept(refusal_of("STEP_GAP", next_step="7"), 0.0)
    assert delivery.ended(gap.value) is None
    with pytest.raises(errors.StepGapError, match="steps 7 to 9 are no longer kept"):
        delivery.outputs()
    assert not delivery.drop_refused()
    assert delivery.flight.frames() == [frame(4)]


@pytest.mark.parametrize("next_step", ["12", "99", "-1"])
def test_a_gap_that_is_none_is_raised_and_not_answered_by_frames(next_step: str) -> None:
    delivery = delivery_of(3, first_step=12)
    send(delivery)
    with pytest.raises(errors.StepGapError) as gap:
        delivery.accept(refusal_of("STEP_GAP", next_step=next_step), 0.0)
    assert delivery.ended(gap.value) is None


def test_other_outputs_than_before_the_store_was_put_back_are_never_taken() -> None:
    delivery = delivery_of(3, max_chunk=1)
    for _ in range(2):
        delivery.accept(reply_to(send(delivery)), 0.0)
    assert outputs_of(delivery) == [frame(0), frame(1)]
    send(delivery)
    with pytest.raises(errors.StepGapError) as gap:
        delivery.accept(refusal_of("STEP_GAP", next_step="0"), 0.0)
    assert delivery.ended(gap.value) == 0.0
    delivery.opened()
    delivery.accept(reply_to(send(delivery)), 0.0)
    with pytest.raises(errors.HistoryDiffersError) as differs:
        delivery.accept(reply_to(send(delivery), frame(7)), 0.0)
    assert differs.value.step == 1
    assert delivery.ended(differs.value) is None
    with pytest.raises(errors.HistoryDiffersError):
        delivery.outputs()
