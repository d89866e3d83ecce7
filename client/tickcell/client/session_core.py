"""A session as its caller has it, and every operation that moves it: no I/O.

The session's place in the sequence is `next_step`: the first step whose output
the caller does not have. It moves when the caller gets an output, and by nothing
else; whatever goes wrong in between, doing the same step again is right.

`Session` does the operations with threads, `AsyncSession` with asyncio (see `needs`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from tickcell.client import arguments, dropout, errors, unary_calls
from tickcell.client.backoff import BACKLOG_S
from tickcell.client.frames import Encoder, Frames
from tickcell.client.life import Chunk, Life, Place
from tickcell.client.pipeline_core import Cargo
from tickcell.client.recall import Recall
from tickcell.client.shapes import Shapes
from tickcell.client.turns import Turns
from tickcell.client.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.drawing import Drawing
    from tickcell.client.flight import Flight
    from tickcell.client.kept_frames import KeptFrames
    from tickcell.client.needs import Operation
    from tickcell.client.resources import Model, SessionInfo
    from tickcell.client.route import Route

# Rows (steps times series) in one request. More gain nothing.
_CHUNK_ROWS = 1024

_log = logging.getLogger("tickcell.client")


class OpenStream(Protocol):
    """What a stream's driver shows while the session's steps go by it alone."""

    @property
    def flight(self) -> Flight:
        """The frames and outputs."""

    @property
    def in_flight(self) -> int:
        """The number of steps sent and not answered."""

    @property
    def frames(self) -> list[bytes]:
        """The frames of the steps whose outputs the caller does not have."""

    @property
    def end(self) -> int:
        """The step of the next frame that is pushed."""

    def leave(self) -> list[bytes]:
        """Returns those frames, and lets all before them be recalled."""


class Sender(Protocol):
    """How requests go out."""

    def exchange(self, life: Life, chunk: Chunk) -> Operation[tuple[bytes, bytes]]:
        """Sends steps until they are answered; returns the outputs, and the history after them."""


class Bounds(NamedTuple):
    """What holds for one stream.

    Attributes:
      max_chunk: the most steps in one request.
      max_waiting: the most steps that are pushed and whose output the caller lacks.
      retry_for_s: for how long the server may be away; None for ever.
    """

    max_chunk: int
    max_waiting: int
    retry_for_s: float | None


class SessionCore:
    """Where a session stands, and by which rules it goes on.

    Attributes:
      route: the way to its servers.
      info: the session as the server described it last.
      life: what every request says; another one after a reset.
      shapes: of its frames and outputs.
      frames: takes the caller's.
      place: where the caller is, unless a stream is open.
      recall: the steps before, for a store that is put back.
      turns: the stream of its single steps.
      unanswered: what streams took and the caller has no output for.
      stream: the one by which the steps go alone; None if none is open.
      is_closed: whether its caller has left it.
    """

    def __init__(
        self,
        route: Route,
        info: SessionInfo,
        on_dropout: dropout.Policy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins where the session stands; see `opened`.

        Args:
          route: the way to its servers.
          info: as the server has just described it.
          on_dropout: what to do with readings that dropped out.
          clock: gives a time in seconds that never jumps.
        """
        self.route = route
        self._clock = clock
        self.is_closed = False
        self._is_stepping = False
        self.stream: OpenStream | None = None
        self.turns = Turns(route, clock)
        self.unanswered = Unanswered(info.id)
        self._model: Model | None = None
        # Of the lives before, and of this one.
        self._rollback_count = 0
        self.recall = Recall(info.id, info.next_step, info.window_step_count)
        self.place: Place
        self._begin(info)
        self.frames = Frames(self.shapes, on_dropout)

    @classmethod
    def opened(
        cls, route: Route, begin: Operation[SessionInfo], on_dropout: dropout.Policy
    ) -> Operation[SessionCore]:
        """Creates or gets a session.

        Args:
          route: the way to its servers.
          begin: the operation that does it.
          on_dropout: what to do with readings that dropped out.

        Raises:
          ModelUnknownError: readings are to be mended, and nobody knows the sensors' ranges.
          TickcellError: as `begin`.
        """
        dropout.check_policy(on_dropout)
        core = cls(route, (yield from begin), on_dropout)
        if on_dropout != "raise":
            yield from core.get_model()
        return core

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

    def get_model(self) -> Operation[Model]:
        """Gets the model that advances the session, once.

        Raises:
          ModelUnknownError: the server does not serve it now.
        """
        if self._model is None:
            info = self.info
            model = yield from unary_calls.get_model(self.route, info.model, info.model_version)
            self.frames.learn(model)
            self._model = model
        return self._model

    def step(
        self, frame: ArrayLike, sender: Sender | None = None
    ) -> Operation[NDArray[np.float32]]:
        """Advances the session by one frame; as `Session.step`.

        Args:
          frame: as for `Session.step`.
          sender: how its request goes out; None for the session's own turns.
        """
        readings = self.frames.readings(frame, time_axes=0)
        if self._is_stepping:
            raise self._not_alone()
        try:
            self._is_stepping = True
            outputs = yield from self._send(readings[np.newaxis], sender or self.turns)
        finally:
            self._is_stepping = False
        return self.shapes.outputs_of(readings, outputs)

    def steps(
        self, frames: ArrayLike, out: NDArray[np.float32] | None
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
        size = self.max_chunk
        start = 0
        if self._is_stepping:
            raise self._not_alone()
        try:
            self._is_stepping = True
            while start < len(readings):
                before = self.place.step
                sent = readings[start : start + size]
                outputs = yield from self._send(sent, self.turns)
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

    def touch(self) -> Operation[None]:
        """Renews the session's time to live."""
        self.check_not_closed()
        with self._explained():
            self.info = yield from unary_calls.touch_session(
                self.route, self.id, self.life.generation
            )

    def reset(self) -> Operation[None]:
        """Starts again from the initial state and step 0, under a new generation."""
        ended = self.life
        with self._explained():
            info = yield from unary_calls.reset_session(self.route, self.id, ended.generation)
        self._begin(info, (*ended.ended, ended.generation))
        self.unanswered.restart()

    def delete(self) -> Operation[None]:
        """Deletes the session; one that has ended, or was reset by others, is left at that."""
        try:
            yield from unary_calls.delete_session(self.route, self.id, self.life.generation)
        except errors.SessionEndedError:
            pass
        except errors.SessionClaimedError:
            _log.warning("%s: was claimed by others; it is left to them", self.id)
        except errors.SessionRestartedError as error:
            if isinstance(self.life.explained(error), errors.ResetLostError):
                _log.warning("%s: its reset was lost; the life before is left alone", self.id)
            else:
                _log.warning("%s: was begun anew by others; that life is left alone", self.id)

    def leave(self) -> None:
        """Takes that the caller leaves the session, for good."""
        self.is_closed = True
        self.turns.drop()
        counts = self.frames.dropout_counts
        if counts:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            _log.warning("%s: readings that dropped out: %s", self.id, told)

    def check_not_closed(self) -> None:
        """Checks that the session has not been left.

        Raises:
          UsageError: it has.
        """
        if self.is_closed:
            raise errors.UsageError(f"{self.id}: is closed; attach to it again.")

    def check_open(self) -> None:
        """Checks that steps may be done by calls.

        Raises:
          UsageError: the session is closed, or a stream is open.
        """
        if self.is_closed:
            self.check_not_closed()
        if self.stream is not None:
            raise errors.UsageError(f"{self.id}: a stream is open; finish or close it first.")

    def bounds(self, *, max_chunk: int | None, backlog: int | None) -> Bounds:
        """Returns what holds for a stream; the arguments are those of `Session.stream`.

        Raises:
          UsageError: one cannot be meant.
        """
        window = self.life.window
        chunk = max(1, min(window // 2, self.max_chunk))
        if max_chunk is not None:
            most = min(window, self.info.max_step_count)
            chunk = min(arguments.count("max_chunk", max_chunk, lowest=1), most)
        retry_for_s = self.route.retry_for_s
        if backlog is None:
            return Bounds(chunk, window, retry_for_s)
        waiting = arguments.count("backlog", backlog, lowest=1)
        return Bounds(chunk, waiting, None if retry_for_s is None else max(retry_for_s, BACKLOG_S))

    def cargo(self, drawing: Drawing | KeptFrames | None, bounds: Bounds) -> Cargo:
        """Returns the steps of a stream that begins, which is open from now on.

        Args:
          drawing: what draws for it; None if its frames come from the caller.
          bounds: what holds for it.
        """
        # One place of a server is enough.
        self.turns.drop()
        frames = self.unanswered.begin(drawing)
        return Cargo(
            self.life, self.place, frames, bounds.max_chunk, bounds.max_waiting, self.recall
        )

    def end_stream(self, stream: OpenStream) -> None:
        """Takes that a stream ends; the session stands where its caller is.

        Once more after a Ctrl-C in the middle, it ends what is left to be ended.
        """
        self.unanswered.stop_drawing()
        self.place = stream.flight.place
        self.unanswered.leave(stream.leave())
        self.stream = None

    def encoder(self) -> Encoder:
        """Returns what takes frames out of a stream's source."""
        return Encoder(self.frames, lambda: self._end)

    def encode(self, frame: ArrayLike) -> bytes:
        """Returns a frame as a stream takes it, checked by the ranges; see `get_model`."""
        return self.frames.encode(frame, self._end, is_checked=True)

    @property
    def _end(self) -> int:
        """The step of the next frame that is taken."""
        return self.place.step if self.stream is None else self.stream.end

    def _not_alone(self) -> errors.UsageError:
        return errors.UsageError(
            f"{self.id}: a step is under way; a session is for one task or thread at a time."
        )

    def _begin(self, info: SessionInfo, ended: tuple[int, ...] = ()) -> None:
        """Takes over a life of the session, after those that were ended here."""
        self.info = info
        self.shapes = Shapes(info)
        size = self.shapes.output_size
        window = info.window_step_count
        self.life: Life = Life(info.id, info.generation, window, size, ended)
        self.place = Place(info.next_step, info.history)
        self._rollback_count += self.recall.rollback_count
        self.recall = Recall(info.id, info.next_step, window)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raises what a refusal means to whoever was answered in this life before."""
        try:
            yield
        except errors.RefusedError as error:
            explained = self.life.explained(error)
            if explained is error:
                raise
            raise explained from error

    def _send(self, readings: NDArray[np.float32], sender: Sender) -> Operation[bytes]:
        """Sends frames, or the first of them up to one that cannot be mended.

        Returns:
          The outputs of those that were sent, which `place` is behind now.
        """
        mended = None
        if self.frames.mends:
            mended = self.frames.mended(readings, self.place.step)
            readings = np.stack(mended.frames)
        frames = readings.tobytes()
        chunk = Chunk.of(self.place, len(readings), frames)
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
