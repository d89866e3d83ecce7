"""A delivery with threads: it opens the streams, sends, reads and waits.

Who does what: the *caller* pushes frames and pops outputs. The *carrier*, a
thread, opens the stream, reads its replies, waits out the back-off and opens the
next one. gRPC's own thread draws the requests. They share one `Delivery`, which
decides everything, and one lock, which guards it. Nobody holds that while
calling gRPC.

What cannot happen: two streams at once (there is one carrier, and it ends a
stream before it opens the next); a request that is drawn for a stream that has
ended (`_opened` counts the streams); a step that is sent before an earlier one.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from tickcell import wire
from tickcell.client import at_exit, errors, grpc_errors, methods
from tickcell.client.delivery import Delivery, Outputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tickcell.client.flight import Flight
    from tickcell.client.life import Life, Place
    from tickcell.client.link import Link
    from tickcell.client.recall import Recall


class Pipeline:
    """The steps of one session in flight: in order, each exactly once.

    For one caller's thread; another one may push.
    """

    def __init__(
        self,
        link: Link,
        life: Life,
        place: Place,
        frames: Sequence[bytes],
        *,
        max_chunk: int,
        max_waiting: int,
        recall: Recall | None = None,
    ) -> None:
        """Prepares the next steps; the first frame opens the stream.

        Args:
          link: the way to the server; the pipeline's alone from now on, and closed by it.
          life: of the session.
          place: where the session stands.
          frames: that wait already.
          max_chunk: the most steps in one request.
          max_waiting: the most steps that are pushed and whose output the caller lacks.
          recall: the session's, of the steps before; None for none.
        """
        self._link = link
        self._life = life
        self._lock = threading.Lock()
        # Who waits for what, so that nobody is woken in vain: whoever pushes for room, gRPC's
        # thread for a chunk to send, and the carrier for a step to carry.
        self._room = threading.Condition(self._lock)
        self._chunks = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        # The caller waits in another way, which bears Ctrl-C: that strikes in no other thread.
        self._wakes = queue.SimpleQueue[None]()
        self._caller_waits = False
        self._delivery = Delivery(
            life,
            place,
            frames,
            max_chunk=max_chunk,
            max_waiting=max_waiting,
            deadline_s=link.deadline_s,
            backoff=link.backoff(),
            recall=recall,
        )
        self._is_closed = False
        self._call: Any = None
        self._opened = 0
        self._is_given_up = False
        self._carrier = threading.Thread(target=self._carry, name="tickcell-steps", daemon=True)
        self._owner = at_exit.Owner(self)

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
        """Waits until a frame may be pushed; false if no frame is needed."""
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
            self._wake_sender()
            self._work.notify()
            return step

    def finish(self) -> None:
        """Says that no more frames come."""
        with self._lock:
            self._delivery.finish()
            self._wake_all()

    def fail(self, failure: errors.TickcellError) -> None:
        """Says that the steps cannot go on; `pop` raises it once the outputs are read."""
        with self._lock:
            self._delivery.fail(failure)
            self._wake_all()

    def pop(self, timeout_s: float | None = None) -> Outputs | None:
        """Returns the output of the step `flight.first`, as long as that is not moved.

        Returns:
          None if it does not come in time, or if no more comes.

        Raises:
          TickcellError: the step was refused, or cannot be sent any more; all outputs
            before it were returned.
        """
        outputs = self.take(timeout_s)
        if outputs is None:
            return None
        return Outputs(outputs.first_step, outputs.data[: self._life.output_size])

    def take(self, timeout_s: float | None = None) -> Outputs | None:
        """Returns the outputs of the step `flight.first` and of those answered with it.

        As `pop` does; the caller moves `flight.first` by one for each.
        """
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._lock:
                outputs = self._delivery.outputs()
                # What the caller has makes room.
                if self._delivery.room > 0:
                    self._room.notify()
                self._wake_sender()
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
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=self._wait_s(now, until))

    def drop_refused(self) -> bool:
        """Takes the frame for which `pop` raised a refusal out of the run.

        Returns:
          Whether the frames behind it go on; false if it was not the frame's fault.
        """
        with self._lock:
            is_dropped = self._delivery.drop_refused()
            self._wake_all()
            return is_dropped

    def release(self) -> None:
        """Says that the caller has the output that `pop` returns."""
        self.flight.first += 1

    def may_close(self) -> bool:
        """Whether it can still be closed: not after the interpreter's end, nor in a child."""
        return self._owner.may_close()

    def close(self) -> None:
        """Ends the stream and its threads; what is in flight may or may not be applied."""
        if not self._owner.may_close():
            return
        with self._lock:
            self._is_closed = True
            self._opened += 1
            call = self._call
            self._wake_all()
        if call is not None:
            call.cancel()
        if self._carrier.ident is not None:
            self._carrier.join()
        self._link.close()

    def _wake_all(self) -> None:
        """Lets everybody look; the lock must be held, as for those below."""
        for waiting in (self._room, self._chunks, self._work):
            waiting.notify_all()
        self._wake_caller()

    def _wake_sender(self) -> None:
        """Lets gRPC's thread look, if there is a chunk for it."""
        if self._delivery.can_send:
            self._chunks.notify_all()

    def _wake_caller(self) -> None:
        """Lets the caller look, if it waits."""
        if self._caller_waits:
            self._caller_waits = False
            self._wakes.put(None)

    def _start_carrier(self) -> None:
        if self._carrier.ident is None:
            self._carrier.start()

    def _check_open(self) -> None:
        if self._is_closed:
            raise errors.UsageError(f"{self._life.session}: was closed while its stream was open.")

    def _wait_s(self, now: float, until: float) -> float | None:
        """Returns how long to wait for a change before looking at the clock again."""
        with self._lock:
            overdue_at = self._delivery.overdue_at
        if overdue_at is None:
            # A reply may be owed from any moment on.
            overdue_at = now + self._link.deadline_s
        wait_s = min(overdue_at, until) - now
        return None if wait_s == math.inf else max(0.0, wait_s)

    def _overdue_call(self, now: float) -> Any:
        """Returns the call whose reply is overdue, once; None if none is."""
        overdue_at = self._delivery.overdue_at
        if self._call is None or self._is_given_up or overdue_at is None or now < overdue_at:
            return None
        self._is_given_up = True
        return self._call

    def _carry(self) -> None:
        """Runs streams until there is nothing left to carry; what ends it else is raised."""
        try:
            self._run_streams()
        except Exception as fault:  # noqa: BLE001 - told to whoever waits
            # Whoever waits for an output would wait for ever.
            with self._lock:
                self._delivery.fail(fault)
                self._wake_all()

    def _run_streams(self) -> None:
        """Runs one stream after another."""
        while self._wait_for_work():
            failure = self._run_stream()
            with self._lock:
                if self._is_closed:
                    return
                delay_s = self._delivery.ended(failure)
                self._wake_all()
                if delay_s:
                    self._work.wait_for(lambda: self._is_closed, delay_s)

    def _wait_for_work(self) -> bool:
        """Waits for a step that is not answered; false if none will come."""
        delivery = self._delivery
        with self._lock:
            self._work.wait_for(
                lambda: (
                    self._is_closed
                    or delivery.has_work
                    or (delivery.is_finished and not delivery.has_failed)
                )
            )
            return not self._is_closed and delivery.has_work

    def _run_stream(self) -> errors.TickcellError:
        """Opens a stream and reads its replies to its end; returns why it ended."""
        with self._lock:
            self._delivery.opened()
            self._opened += 1
            self._is_given_up = False
            opened = self._opened
        connection, call = self._link.stream(
            methods.STREAM_STEPS, self._life.session, self._requests(opened)
        )
        with self._lock:
            self._call = call
            is_closed = self._is_closed
        if is_closed:
            call.cancel()
        failure: errors.TickcellError = errors.LostError("the server ended the stream", "OK")
        try:
            for reply in call:
                with self._lock:
                    self._delivery.accept(reply, time.monotonic())
                    self._wake_sender()
                    self._wake_caller()
                connection.has_answered = True
        except grpc.RpcError as error:
            failure = self._link.judged(connection, grpc_errors.from_call(error))
        except errors.TickcellError as error:
            failure = self._link.judged(connection, error)
        with self._lock:
            self._call = None
            self._opened += 1
            if self._is_given_up:
                failure = self._delivery.overdue()
            self._wake_all()
        call.cancel()
        self._link.failed(connection, failure)
        return failure

    def _requests(self, opened: int) -> Iterator[Any]:
        """Yields the requests of one stream, in gRPC's thread."""
        delivery = self._delivery
        while True:
            with self._lock:
                self._chunks.wait_for(
                    lambda: self._opened != opened or delivery.can_send or delivery.has_sent_all
                )
                chunk = None if self._opened != opened else delivery.chunk(time.monotonic())
            if chunk is None:
                return
            yield self._life.request(wire.StreamStepsRequest, chunk)
