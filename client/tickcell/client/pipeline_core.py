"""A delivery on its way: what its caller, its source and its carrier do with it, and no I/O.

Who does what: the *caller* pops outputs. It or a *source* pushes frames. The *carrier*
opens a stream, reads its replies, waits out the back-off and opens the next one, and gRPC
draws the requests of each stream. They share one `Delivery`, which decides everything, and
one lock, which guards it and which nobody holds while waiting.

`Pipeline` drives this with threads, `AsyncPipeline` with asyncio: what each of them needs
is yielded, as in `needs`.

What cannot happen: two streams at once (there is one carrier, and it ends a stream before
it opens the next); a request that is drawn for a stream that has ended (`_opened` counts
the streams); a step that is sent before an earlier one.
"""

from __future__ import annotations

import abc
import math
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tickcell import wire
from tickcell.client import errors
from tickcell.client.delivery import Delivery, Outputs
from tickcell.client.needs import Look, Open, Read, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.client.flight import Flight
    from tickcell.client.life import Chunk, Life, Place
    from tickcell.client.needs import StreamOperation
    from tickcell.client.recall import Recall
    from tickcell.client.route import Route


class Cargo(NamedTuple):
    """The steps that a pipeline is to carry.

    Attributes:
      life: of the session.
      place: where the session stands.
      frames: that wait already.
      max_chunk: the most steps in one request.
      max_waiting: the most steps that are pushed and whose output the caller lacks.
      recall: the session's, of the steps before; None for none.
    """

    life: Life
    place: Place
    frames: Sequence[bytes]
    max_chunk: int
    max_waiting: int
    recall: Recall | None = None


class PipelineCore(abc.ABC):
    """The steps of one session in flight: in order, each exactly once.

    For one caller; a source in another thread may push.
    """

    def __init__(self, route: Route, cargo: Cargo) -> None:
        """Prepares the next steps; the first frame opens the stream.

        Args:
          route: the way to the servers.
          cargo: the steps.
        """
        self._route = route
        self._life = cargo.life
        self._lock = threading.Lock()
        # For a source in a thread of its own, with asyncio too.
        self._room = threading.Condition(self._lock)
        self._caller_waits = False
        self._delivery = Delivery(
            cargo.life,
            cargo.place,
            cargo.frames,
            max_chunk=cargo.max_chunk,
            max_waiting=cargo.max_waiting,
            deadline_s=route.deadline_s,
            backoff=route.backoff(),
            recall=cargo.recall,
        )
        self._is_closed = False
        self._call: Any = None
        self._opened = 0
        self._is_given_up = False

    @property
    def flight(self) -> Flight:
        """The frames and outputs; of these, the caller moves `first`."""
        return self._delivery.flight

    @property
    def in_flight(self) -> int:
        """The number of steps sent and not answered."""
        with self._lock:
            return self.flight.in_flight

    @property
    def frames(self) -> list[bytes]:
        """The frames of the steps whose outputs the caller does not have."""
        with self._lock:
            return self.flight.frames()

    def leave(self) -> list[bytes]:
        """Returns those frames, and lets all before them be recalled."""
        with self._lock:
            return self.flight.leave()

    @property
    def end(self) -> int:
        """The step of the next frame that is pushed."""
        with self._lock:
            return self.flight.end

    @property
    def room(self) -> int:
        """How many frames may be pushed; 0 if none is needed."""
        with self._lock:
            return self._delivery.room if self._needs_frames else 0

    def wait_for_room(self) -> bool:
        """Waits, in a source's thread, until a frame may be pushed; false if none is needed."""
        with self._lock:
            self._room.wait_for(lambda: self._delivery.room > 0 or not self._needs_frames)
            return self._needs_frames

    @property
    def needs_frames(self) -> bool:
        """Whether frames are needed, be there room for them or not."""
        with self._lock:
            return self._needs_frames

    @property
    def _needs_frames(self) -> bool:
        return not self._is_closed and not self._delivery.has_failed

    def start(self) -> None:
        """Sends the frames that wait already."""
        with self._lock:
            if self.flight.waiting:
                self._start_carrier()

    def push(self, *frames: bytes) -> int:
        """Takes the next steps' frames, which are then on their way; returns the first step.

        Args:
          *frames: each `[B, F]` float32, little-endian.

        Raises:
          BacklogError: fewer frames may wait; none of them was taken.
          UsageError: the pipeline is closed; none of the frames was taken.
        """
        with self._lock:
            self._check_open()
            step = self._delivery.push(*frames)
            self._start_carrier()
            self._wake_sender_if_due()
            self._wake_carrier()
            return step

    def finish(self) -> None:
        """Says that no more frames come."""
        with self._lock:
            self._delivery.finish()
            self._wake_all()

    def fail(self, failure: errors.TickcellError) -> None:
        """Says that the steps cannot go on, which is raised once the outputs are read."""
        with self._lock:
            self._delivery.fail(failure)
            self._wake_all()

    def drop_refused(self) -> bool:
        """Takes the frame for which a refusal was raised out of the run.

        Returns:
          Whether the frames behind it go on; false if it was not the frame's fault.
        """
        with self._lock:
            is_dropped = self._delivery.drop_refused()
            self._wake_all()
            return is_dropped

    def release(self) -> None:
        """Says that the caller has the output that `popping` returned."""
        self.flight.first += 1

    def popping(self, timeout_s: float | None = None) -> StreamOperation[Outputs | None]:
        """Returns the output of the step `flight.first`, as long as that is not moved.

        Returns:
          None if it does not come in time, or if no more comes.

        Raises:
          TickcellError: the step was refused, or cannot be sent any more; all outputs
            before it were returned.
        """
        outputs = yield from self.taking(timeout_s)
        if outputs is None:
            return None
        return Outputs(outputs.first_step, outputs.data[: self._life.output_size])

    def taking(self, timeout_s: float | None = None) -> StreamOperation[Outputs | None]:
        """Returns the outputs of the step `flight.first` and of those answered with it.

        As `popping` does; the caller moves `flight.first` by one for each.
        """
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._lock:
                outputs = self._delivery.outputs()
                # What the caller has makes room.
                if self._delivery.room > 0:
                    self._wake_source()
                self._wake_sender_if_due()
                if outputs is not None:
                    return outputs
                if self._delivery.is_over:
                    return None
                self._check_open()
                now = time.monotonic()
                overdue = self._overdue_call(now)
                self._caller_waits = True
            if overdue is not None:
                overdue.cancel()
                continue
            if until <= now:
                return None
            yield Look(self._wait_s(now, until))

    def carrying(self) -> StreamOperation[None]:
        """Runs one stream after another, until nothing is left to carry.

        What ends it otherwise is raised where outputs are awaited.
        """
        try:
            while (yield from self._has_work()):
                failure = yield from self._carry_by_a_stream()
                with self._lock:
                    if self._is_closed:
                        return
                    delay_s = self._delivery.ended(failure)
                    self._wake_all()
                if delay_s:
                    yield Work(lambda: self._is_closed, delay_s)
        except Exception as fault:  # noqa: BLE001 - told to whoever waits
            # Whoever waits for an output would wait for ever.
            with self._lock:
                self._delivery.fail(fault)
                self._wake_all()

    def _has_work(self) -> StreamOperation[bool]:
        """Waits for a step that is not answered; returns false if none will come."""
        delivery = self._delivery
        yield Work(
            lambda: (
                self._is_closed
                or delivery.has_work
                or (delivery.is_finished and not delivery.has_failed)
            ),
            None,
        )
        with self._lock:
            return not self._is_closed and delivery.has_work

    def _carry_by_a_stream(self) -> StreamOperation[errors.TickcellError]:
        """Opens a stream and reads its replies to its end; returns why it ended."""
        with self._lock:
            self._delivery.opened()
            self._opened += 1
            self._is_given_up = False
            opened = self._opened
        connection = self._route.connection()
        call = yield Open(connection, self._life.session, opened)
        with self._lock:
            self._call = call
            is_closed = self._is_closed
        if is_closed:
            call.cancel()
        failure: errors.TickcellError = errors.LostError("the server ended the stream", "OK")
        try:
            while (reply := (yield Read(call))) is not None:
                with self._lock:
                    self._delivery.accept(reply, time.monotonic())
                    self._wake_sender_if_due()
                    self._wake_caller_if_waiting()
                connection.has_answered = True
        except errors.TickcellError as error:
            failure = yield from self._route.judged(connection, error)
        with self._lock:
            self._call = None
            self._opened += 1
            if self._is_given_up:
                failure = self._delivery.overdue()
            self._wake_all()
            is_closed = self._is_closed
        call.cancel()
        if not is_closed:
            # A stream that was ended here says nothing about its connection.
            yield from self._route.failed(connection, failure)
        return failure

    def _ended(self) -> Any:
        """Takes that the pipeline is closed; returns the call to cancel, if one is open."""
        with self._lock:
            self._is_closed = True
            self._opened += 1
            self._wake_all()
            return self._call

    def _has_request(self, opened: int) -> bool:
        """Whether whoever draws the requests of a stream need not wait; the lock is held."""
        delivery = self._delivery
        return self._opened != opened or delivery.can_send or delivery.has_sent_all

    def _next_chunk(self, opened: int) -> Chunk | None:
        """Returns what a stream sends next; None if it sends no more. The lock is held."""
        return None if self._opened != opened else self._delivery.chunk(time.monotonic())

    def _request(self, chunk: Chunk) -> Any:
        return self._life.request(wire.StreamStepsRequest, chunk)

    def _check_open(self) -> None:
        if self._is_closed:
            raise errors.UsageError(f"{self._life.session}: was closed while its stream was open.")

    def _wait_s(self, now: float, until: float) -> float | None:
        """Returns how long to wait for a change before looking at the clock again."""
        with self._lock:
            overdue_at = self._delivery.overdue_at
        if overdue_at is None:
            # A reply may be owed from any moment on.
            overdue_at = now + self._route.deadline_s
        wait_s = min(overdue_at, until) - now
        return None if wait_s == math.inf else max(0.0, wait_s)

    def _overdue_call(self, now: float) -> Any:
        """Returns the call whose reply is overdue, once; None if none is."""
        overdue_at = self._delivery.overdue_at
        if self._call is None or self._is_given_up or overdue_at is None or now < overdue_at:
            return None
        self._is_given_up = True
        return self._call

    # Whoever is woken has waited for something that may have come. The lock is held.

    def _wake_all(self) -> None:
        """Lets everybody look."""
        self._wake_source()
        self._wake_sender()
        self._wake_carrier()
        self._wake_caller_if_waiting()

    def _wake_source(self) -> None:
        """Lets whoever waits for room look."""
        self._room.notify_all()

    def _wake_sender_if_due(self) -> None:
        """Lets whoever draws requests look, if there is a chunk to send."""
        if self._delivery.can_send:
            self._wake_sender()

    def _wake_caller_if_waiting(self) -> None:
        if self._caller_waits:
            self._caller_waits = False
            self._wake_caller()

    @abc.abstractmethod
    def _start_carrier(self) -> None:
        """Starts the carrier, unless that was done."""

    @abc.abstractmethod
    def _wake_sender(self) -> None:
        """Lets whoever draws requests look."""

    @abc.abstractmethod
    def _wake_carrier(self) -> None:
        """Lets the carrier look."""

    @abc.abstractmethod
    def _wake_caller(self) -> None:
        """Lets the caller look."""
