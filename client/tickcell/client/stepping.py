"""A session's position, and how a step moves it: no I/O.

The session's position is `next_step`: the first step whose output the caller does
not have. It moves only when the caller gets an output; whatever goes wrong in
between, doing the same step again is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from tickcell.client import arguments, errors
from tickcell.client.frames import Frames
from tickcell.client.life import Chunk, Life, Place
from tickcell.client.recall import Recall
from tickcell.client.shapes import Shapes
from tickcell.client.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from tickcell.client import dropout
    from tickcell.client.needs import Operation
    from tickcell.client.resources import SessionInfo
    from tickcell.client.turns import Turns

# Steps in one request, whose reply is due as a whole. More gain nothing.
_CHUNK_STEPS = 1024
# Rows (steps times series) that take about as long to compute as a request takes on its way.
# Of two halves of a window with more than that, one is computed while the other is on its
# way; of fewer, a second request costs more than that saves.
_HALF_ROWS = 256


class Sender(Protocol):
    """How requests go out."""

    def exchange(
        self, life: Life, chunk: Chunk, following: Chunk | None = None
    ) -> Operation[tuple[bytes, bytes]]:
        """Sends steps until they are answered; returns the outputs, and the history after them.

        Those that follow may go out ahead meanwhile; they are what it is asked for next.
        """


class _Taken(NamedTuple):
    """Frames of the caller's that make a request.

    Attributes:
      chunk: as they are sent.
      mended: what dropped out of them; None where that is for the server to refuse.
    """

    chunk: Chunk
    mended: dropout.Mended | None

    @property
    def end(self) -> Place:
        """Where the session stands behind them."""
        return Place(self.chunk.first_step + self.chunk.step_count, self.chunk.last_history)

    @property
    def can_be_followed(self) -> bool:
        """Whether what comes next can be known before they are answered.

        What is mended depends on the frames that were taken before it. And what goes out ahead
        must name the history before it: it must never be applied behind other frames.
        """
        return self.mended is None and self.chunk.expected_history is not None


class Stepping:
    """A session between its caller's frames and its caller's outputs.

    Attributes:
      info: the session as the server described it last.
      life: what every request says; another one after a reset.
      shapes: of its frames and outputs.
      frames: takes the caller's.
      place: where the caller is, unless a stream is open.
      recall: the steps before, for a store that is put back.
      turns: how its requests go out.
      unanswered: what streams took and the caller has no output for.
    """

    def __init__(
        self,
        turns: Turns,
        info: SessionInfo,
        on_dropout: dropout.Policy,
        clock: Callable[[], float],
    ) -> None:
        """Begins where the session stands.

        Args:
          turns: how its requests go out.
          info: as the server has just described it.
          on_dropout: what to do with readings that dropped out.
          clock: gives a time in seconds that never jumps.
        """
        self.turns = turns
        self._clock = clock
        self._is_stepping = False
        self.unanswered = Unanswered(info.id)
        # Of the lives before, and of this one.
        self._rollback_count = 0
        self.recall = Recall(info.id, info.next_step, info.window_step_count)
        self.place: Place
        self.begin(info)
        self.frames = Frames(self.shapes, on_dropout)

    @property
    def id(self) -> str:
        """The session's id."""
        return self.info.id

    @property
    def max_chunk(self) -> int:
        """The most steps in one request that goes by itself."""
        return min(_CHUNK_STEPS, self.life.window, self.info.max_step_count)

    @property
    def max_half_chunk(self) -> int:
        """The most steps in one request of two that are on their way, or more."""
        return max(1, min(self.life.window // 2, self.max_chunk))

    @property
    def chunk_of_many(self) -> int:
        """How many steps go in one request, of more than fit into one and are all there."""
        half = self.max_half_chunk
        return half if half * self.info.series_count >= _HALF_ROWS else self.max_chunk

    @property
    def rollback_count(self) -> int:
        """How often the store was found put back."""
        return self._rollback_count + self.recall.rollback_count

    def begin(self, info: SessionInfo, ended: tuple[int, ...] = ()) -> None:
        """Takes over a life of the session, after those that were ended here."""
        self.info = info
        self.shapes = Shapes(info)
        size = self.shapes.output_size
        window = info.window_step_count
        self.life: Life = Life(info.id, info.generation, window, size, ended)
        self.place = Place(info.next_step, info.history)
        self._rollback_count += self.recall.rollback_count
        self.recall = Recall(info.id, info.next_step, window)

    def step(
        self,
        frame: ArrayLike,
        sender: Sender | None = None,
        *,
        resets: ArrayLike | None = None,
    ) -> Operation[NDArray[np.float32]]:
        """Advances the session by one frame; as `Session.step`.

        Args:
          frame: as for `Session.step`.
          sender: how its request goes out; None for the session's own turns.
          resets: as for `Session.step`.
        """
        readings = self.frames.readings(frame, time_axes=0)
        begins = None if resets is None else self._begins(resets, 1)
        if self._is_stepping:
            raise self._not_alone()
        try:
            self._is_stepping = True
            taken = self._take_one(readings, begins)
            outputs = yield from self._send(taken, sender or self.turns)
        finally:
            self._is_stepping = False
        return self.shapes.outputs_of(readings, outputs)

    def steps(
        self,
        frames: ArrayLike,
        out: NDArray[np.float32] | None,
        resets: ArrayLike | None = None,
    ) -> Operation[NDArray[np.float32]]:
        """Advances the session by any number of frames, in chunks; as `Session.steps`.

        While a chunk is answered, the one behind it is on its way: both are within the window.
        """
        readings = self.frames.readings(frames, time_axes=1)
        shape = self.shapes.output_shape(readings)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise errors.UsageError(
                f"out: got {out.dtype} {list(out.shape)}, expected float32 {list(shape)}."
            )
        begins = None if resets is None else self._begins(resets, len(readings))
        size = self.max_chunk
        if len(readings) > size and not self.frames.mends:
            size = self.chunk_of_many
        if self._is_stepping:
            raise self._not_alone()
        try:
            self._is_stepping = True
            start, ahead = 0, None
            while start < len(readings):
                taken = ahead or self._take(readings, begins, self.place, start, size)
                # Up to a frame that cannot be mended, which is raised once it is the first.
                end = start + taken.chunk.step_count
                ahead = None
                if end < len(readings) and 2 * size <= self.life.window and taken.can_be_followed:
                    ahead = self._take(readings, begins, taken.end, end, size)
                outputs = yield from self._send(taken, self.turns, ahead)
                out[start:end] = self.shapes.outputs_of(readings[start:end], outputs)
                start = end
        finally:
            self._is_stepping = False
        return out

    def rewind(self, step: int) -> None:
        """Goes back to an earlier step; as `Session.rewind`."""
        at = arguments.count("step", step, lowest=0, highest=self.place.step)
        self.go_back(Place(at, None))

    def go_back(self, place: Place) -> None:
        """Goes back to a place where the session was, if it is further by now."""
        if place.step < self.place.step:
            self.place = place
            self.recall.rewind(place.step)

    def _not_alone(self) -> errors.UsageError:
        return errors.UsageError(
            f"{self.id}: a step is under way; a session is for one task or thread at a time."
        )

    def _begins(self, resets: ArrayLike, steps: int) -> NDArray[np.bool_]:
        """Returns which series begin anew before which step, `[T, B]`.

        Raises:
          UsageError: there are more or fewer than series and steps.
        """
        begins = np.asarray(resets, bool)
        series = self.info.series_count
        if begins.size != steps * series:
            raise errors.UsageError(
                f"resets: got {list(begins.shape)}, expected one for each of {steps} steps and "
                f"{series} series."
            )
        return begins.reshape(steps, series)

    def _take_one(self, readings: NDArray[np.float32], begins: NDArray[np.bool_] | None) -> _Taken:
        """Takes one frame; as `_take`."""
        if self.frames.mends or begins is not None:
            return self._take(readings[np.newaxis], begins, self.place)
        return _Taken(Chunk.of(self.place, 1, readings.tobytes()), None)

    def _take(
        self,
        readings: NDArray[np.float32],
        begins: NDArray[np.bool_] | None,
        place: Place,
        start: int = 0,
        size: int = 1,
    ) -> _Taken:
        """Takes so many frames from one on, or the first of them up to one that cannot be mended.

        Args:
          readings: `[T, ...]`.
          begins: `[T, B]`, which series begin anew before which; None for none.
          place: where the session stands then.
          start: the first to take.
          size: how many at most.
        """
        readings = readings[start : start + size]
        mended = None
        if self.frames.mends:
            mended = self.frames.mended(readings, place.step)
            readings = np.stack(mended.frames)
        frames, count = readings.tobytes(), len(readings)
        if begins is None:
            return _Taken(Chunk.of(place, count, frames), mended)
        resets = tuple(np.flatnonzero(begins[start : start + count]).tolist())
        return _Taken(Chunk.of(place, count, frames, resets, self.info.series_count), mended)

    def _send(self, taken: _Taken, sender: Sender, ahead: _Taken | None = None) -> Operation[bytes]:
        """Sends frames, and those that follow them ahead.

        Returns:
          The outputs of those that were sent, which `place` is behind now.
        """
        chunk, mended = taken
        following = None if ahead is None else ahead.chunk
        answer = None
        try:
            while answer is None:
                if self.recall.answered < chunk.first_step:
                    yield from self._catch_up(chunk, sender)
                try:
                    answer = yield from sender.exchange(self.life, chunk, following)
                except errors.StepGapError as gap:
                    self.recall.roll_back(gap, chunk.first_step)
        except errors.RefusedError as error:
            explained = self.life.explained(error)
            if explained is not error:
                raise explained from error
            raise
        outputs, last_history = answer
        self.recall.add_all(chunk, outputs, self._clock())
        self.place = Place(chunk.first_step + chunk.step_count, last_history)
        if self.unanswered.has_frames:
            size = len(chunk.frames) // chunk.step_count
            for start in range(0, len(chunk.frames), size):
                self.unanswered.answer(chunk.frames[start : start + size])
        if mended is not None:
            self.frames.note(mended)
        return outputs

    def _catch_up(self, chunk: Chunk, sender: Sender) -> Operation[None]:
        """Sends again what the store has lost of the steps before a chunk."""
        recall = self.recall
        while recall.answered < chunk.first_step:
            sent = recall.chunk(recall.answered, self.max_chunk)
            try:
                outputs, _ = yield from sender.exchange(self.life, sent)
                recall.answer(sent, outputs, self._clock())
            except errors.StepGapError as gap:
                recall.roll_back(gap, sent.first_step)
