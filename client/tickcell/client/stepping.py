"""A session's position, and how a step moves it: no I/O.

The session's position is `next_step`: the first step whose output the caller does
not have. It moves only when the caller gets an output; whatever goes wrong in
between, doing the same step again is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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

# Rows (steps times series) in one request. More gain nothing.
_CHUNK_ROWS = 1024


class Sender(Protocol):
    """How requests go out."""

    def exchange(self, life: Life, chunk: Chunk) -> Operation[tuple[bytes, bytes]]:
        """Sends steps until they are answered; returns the outputs, and the history after them."""


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
        """The most steps in one request that is not a stream's."""
        rows = max(1, _CHUNK_ROWS // self.info.series_count)
        return min(rows, self.life.window, self.info.max_step_count)

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
            outputs = yield from self._send(readings[np.newaxis], sender or self.turns, begins)
        finally:
            self._is_stepping = False
        return self.shapes.outputs_of(readings, outputs)

    def steps(
        self,
        frames: ArrayLike,
        out: NDArray[np.float32] | None,
        resets: ArrayLike | None = None,
    ) -> Operation[NDArray[np.float32]]:
        """Advances the session by any number of frames, a chunk at a time; as `Session.steps`."""
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
        start = 0
        if self._is_stepping:
            raise self._not_alone()
        try:
            self._is_stepping = True
            while start < len(readings):
                before = self.place.step
                sent = readings[start : start + size]
                own = None if begins is None else begins[start : start + size]
                outputs = yield from self._send(sent, self.turns, own)
                # Up to a frame that cannot be mended, which is raised once it is the first.
                end = start + self.place.step - before
                out[start:end] = self.shapes.outputs_of(sent[: end - start], outputs)
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

    def _send(
        self,
        readings: NDArray[np.float32],
        sender: Sender,
        begins: NDArray[np.bool_] | None = None,
    ) -> Operation[bytes]:
        """Sends frames, or the first of them up to one that cannot be mended.

        Returns:
          The outputs of those that were sent, which `place` is behind now.
        """
        mended = None
        if self.frames.mends:
            mended = self.frames.mended(readings, self.place.step)
            readings = np.stack(mended.frames)
        frames = readings.tobytes()
        if begins is None:
            chunk = Chunk.of(self.place, len(readings), frames)
        else:
            resets = tuple(np.flatnonzero(begins[: len(readings)]).tolist())
            chunk = Chunk.of(self.place, len(readings), frames, resets, self.info.series_count)
        try:
            outputs, last_history = yield from self._answer_to(chunk, sender)
        except errors.RefusedError as error:
            explained = self.life.explained(error)
            if explained is not error:
                raise explained from error
            raise
        self.recall.add_all(chunk, outputs, self._clock())
        self.place = Place(chunk.first_step + chunk.step_count, last_history)
        if self.unanswered.has_frames:
            size = len(frames) // chunk.step_count
            for start in range(0, len(frames), size):
                self.unanswered.answer(frames[start : start + size])
        if mended is not None:
            self.frames.note(mended)
        return outputs

    def _answer_to(self, chunk: Chunk, sender: Sender) -> Operation[tuple[bytes, bytes]]:
        """Sends steps until the store has all up to them; returns their answer."""
        recall, sent = self.recall, chunk
        while True:
            try:
                while recall.answered < chunk.first_step:
                    sent = recall.chunk(recall.answered, self.max_chunk)
                    outputs, _ = yield from sender.exchange(self.life, sent)
                    recall.answer(sent, outputs, self._clock())
                sent = chunk
                return (yield from sender.exchange(self.life, sent))
            except errors.StepGapError as gap:
                recall.roll_back(gap, sent.first_step)
