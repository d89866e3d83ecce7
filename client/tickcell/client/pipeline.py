"""Steps over a stream that is opened again whenever it breaks.

Who does what: the *caller* pushes frames and pops outputs. The *carrier*, a
thread, opens the stream, reads its replies, waits out the back-off and opens the
next one. gRPC's own thread draws the requests. They share one `Flight` and one
condition, which guards everything that changes. Nobody holds it while calling
gRPC.

What cannot happen: two streams at once (there is one carrier, and it ends a
stream before it opens the next); a request that is drawn for a stream that has
ended (`_opened` counts the streams); a step that is sent before an earlier one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from tickcell import wire
from tickcell.client import errors, methods, status
from tickcell.client.flight import Flight
from tickcell.client.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.client.life import Life
    from tickcell.client.link import Link


class Output(NamedTuple):
    """The outputs of one step, `[B, O]` float32, little-endian."""

    step: int
    data: bytes


class Pipeline:
    """The steps of one session in flight: in order, each exactly once.

    For one caller's thread; another one may push.
    """

    def __init__(
        self, link: Link, life: Life, first_step: int, *, max_chunk: int, max_waiting: int
    ) -> None:
        """Prepares the steps from `first_step` on; the first push opens the stream.

        Args:
          link: the way to the server; the pipeline's alone from now on, and closed by it.
          life: of the session.
          first_step: the index of the first frame.
          max_chunk: the most steps in one request.
          max_waiting: the most steps that are pushed and not yet released.
        """
        self._link = link
        self._life = life
        self._max_chunk = max_chunk
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._flight = Flight(first_step, life.window, life.output_size)
        self._failure: errors.TickcellError | None = None
        self._is_finished = False
        self._is_closed = False
        self._call: Any = None
        self._opened = 0
        # Since when the server owes the next reply; counts only while it owes one.
        self._owed_since = 0.0
        self._is_overdue = False
        self._carrier = threading.Thread(target=self._carry, name="tickcell-steps", daemon=True)

    @property
    def in_flight(self) -> int:
        """The number of steps sent and not answered."""
        with self._changed:
            return self._flight.in_flight

    @property
    def next_step(self) -> int:
        """The first step that is not released."""
        with self._changed:
            return self._flight.first

    @property
    def frames(self) -> bytes:
        """The frames of the steps that are pushed and not released."""
        with self._changed:
            return self._flight.frames()

    def wait_for_room(self) -> bool:
        """Waits until a frame may be pushed; false if no frame will ever be needed again."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._has_room or self._is_closed or self._failure is not None
            )
            return not self._is_closed and self._failure is None

    def push(self, frame: bytes) -> int:
        """Takes the next step's frame, which is then on its way; returns the step's index.

        Args:
          frame: `[B, F]` float32, little-endian.

        Raises:
          BacklogError: `max_waiting` steps wait already; the frame was not taken.
        """
        with self._changed:
            if not self._has_room:
                raise errors.BacklogError(
                    f"{self._life.session}: {self._flight.waiting} frames wait for "
                    f"{self._link.address}, and no more may; step {self._flight.end} was not taken."
                )
            step = self._flight.push(frame)
            if self._carrier.ident is None:
                self._carrier.start()
            self._changed.notify_all()
            return step

    def finish(self) -> None:
        """Says that no more frames come."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def fail(self, failure: errors.TickcellError) -> None:
        """Says that the steps cannot go on; `pop` raises it once the outputs are read."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def pop(self, timeout_s: float | None = None) -> Output | None:
        """Returns the output of the step `next_step`, again and again until it is released.

        Returns:
          None if it does not come in time, or if no more comes.

        Raises:
          TickcellError: the step was refused, or cannot be sent any more; all outputs
            before it were returned.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                data = self._flight.output()
                if data is not None:
                    return Output(self._flight.first, data)
                if self._failure is not None:
                    raise self._failure
                if self._is_closed or (self._is_finished and not self._flight.waiting):
                    return None
                now = time.monotonic()
                overdue = self._overdue_call(now)
                if overdue is None:
                    if until is not None and until <= now:
                        return None
                    self._changed.wait(self._longest_wait_s(now, until))
            if overdue is not None:
                overdue.cancel()

    def release(self) -> None:
        """Says that the caller has the output of the step `next_step` and needs it no more."""
        with self._changed:
            self._flight.release()
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the stream and its threads; what is in flight may or may not be applied."""
        with self._changed:
            self._is_closed = True
            self._opened += 1
            call = self._call
            self._changed.notify_all()
        if call is not None:
            call.cancel()
        if self._carrier.ident is not None:
            self._carrier.join()
        self._link.close()

    @property
    def _has_room(self) -> bool:
        return self._flight.waiting < self._max_waiting

    def _longest_wait_s(self, now: float, until: float | None) -> float:
        """Returns how long to wait for a change before looking at the clock again."""
        deadline_s = self._link.deadline_s
        if self._flight.in_flight:
            deadline_s = self._owed_since + deadline_s - now
        return deadline_s if until is None else min(deadline_s, until - now)

    def _overdue_call(self, now: float) -> Any:
        """Returns the call whose reply is overdue, once; None if none is."""
        owes = self._call is not None and self._flight.in_flight and not self._is_overdue
        if not owes or now < self._owed_since + self._link.deadline_s:
            return None
        self._is_overdue = True
        return self._call

    def _carry(self) -> None:
        """Runs one stream after another until there is nothing left to carry."""
        patience = Patience(self._link.retry_for_s)
        while self._wait_for_work():
            failure = self._run_stream(patience)
            if failure is None or self._can_split(failure):
                continue
            with self._changed:
                if self._is_closed:
                    return
                # Nothing is owed: a server that went away in between is no news
                # until there is a frame for it.
                is_idle = self._flight.answered == self._flight.end
            try:
                if is_idle and isinstance(failure, errors.LostError | errors.DrainingError):
                    self._link.close()
                    continue
                delay_s = self._link.wait_after(failure, patience)
            except errors.TickcellError as error:
                self.fail(error)
                return
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, delay_s)

    def _can_split(self, failure: errors.TickcellError) -> bool:
        """Sees to it that a refused chunk is sent again, step by step.

        How frames fall into chunks is chance, and must not show: the steps before the
        one that is refused have outputs.
        """
        is_refused = isinstance(failure, errors.RefusedError) and not failure.may_pass
        if not is_refused or self._max_chunk == 1:
            return False
        self._max_chunk = 1
        return True

    def _wait_for_work(self) -> bool:
        """Waits for a step that is not answered; false if none will come."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._is_closed or self._is_finished or self._flight.answered < self._flight.end
                )
            )
            return not self._is_closed and self._flight.answered < self._flight.end

    def _run_stream(self, patience: Patience) -> errors.TickcellError | None:
        """Opens a stream and reads its replies to its end; returns why it ended."""
        with self._changed:
            self._flight.rewind()
            self._opened += 1
            self._is_overdue = False
            opened = self._opened
        call = self._link.stream(methods.STREAM_STEPS, self._requests(opened))
        with self._changed:
            self._call = call
            is_closed = self._is_closed
        if is_closed:
            call.cancel()
        try:
            for reply in call:
                self._accept(reply)
                self._link.note_answer(patience)
        except grpc.RpcError as error:
            return self._lost(status.from_call(error))
        except errors.TickcellError as error:
            return error
        finally:
            with self._changed:
                self._call = None
                self._opened += 1
                self._changed.notify_all()
            call.cancel()
        return self._lost(errors.LostError("the server ended the stream", "OK"))

    def _lost(self, failure: errors.TickcellError) -> errors.TickcellError:
        """Returns the failure, in our words where it was us who gave the stream up."""
        with self._changed:
            if not self._is_overdue:
                return failure
        text = f"no reply for {self._link.deadline_s:g} s"
        return errors.LostError(text, "DEADLINE_EXCEEDED")

    def _requests(self, opened: int) -> Iterator[Any]:
        """Yields the requests of one stream, in gRPC's thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._opened != opened or self._can_draw)
                if self._opened != opened or not self._flight.can_send:
                    return
                if not self._flight.in_flight:
                    self._owed_since = time.monotonic()
                chunk = self._flight.send(self._max_chunk)
            yield self._life.request(wire.StreamStepsRequest, chunk)

    @property
    def _can_draw(self) -> bool:
        """Whether there is a request to draw, or none to come."""
        all_sent = self._flight.sent == self._flight.end
        return self._flight.can_send or (self._is_finished and all_sent)

    def _accept(self, reply: Any) -> None:
        """Takes one reply of the stream.

        Raises:
          RefusedError: the request was refused.
          ReplyError: the reply belongs to something else.
        """
        if reply.HasField("error"):
            refused = status.from_status(reply.error)
            raise refused or errors.ReplyError(f"{self._life.session}: {reply.error.message}")
        with self._changed:
            self._flight.answer(self._life.outputs(reply, self._flight.unanswered))
            self._owed_since = time.monotonic()
            self._changed.notify_all()
