"""A session as its caller has it, and every operation of its life: no I/O.

`Session` does the operations with threads, `AsyncSession` with asyncio (see `needs`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tickcell.client import arguments, dropout, errors, state_calls, unary_calls
from tickcell.client.backoff import BACKLOG_S
from tickcell.client.frames import Encoder
from tickcell.client.pipeline_core import Cargo
from tickcell.client.stepping import Stepping
from tickcell.client.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.drawing import Drawing
    from tickcell.client.kept_frames import KeptFrames
    from tickcell.client.needs import Operation
    from tickcell.client.pipeline_core import PipelineCore
    from tickcell.client.resources import Model, SessionInfo
    from tickcell.client.route import Route

# Of a session that burns in, which lives no longer than that where its caller dies.
_BURN_IN_TTL_S = 600.0

_log = logging.getLogger("tickcell.client")


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


class SessionCore(Stepping):
    """A session, by whose rules it begins, steps, streams, begins anew and ends.

    Attributes:
      route: the way to its servers.
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
        super().__init__(Turns(route, clock), info, on_dropout, clock)
        self.route = route
        self.is_closed = False
        self.stream: PipelineCore | None = None
        self._model: Model | None = None

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

    def preview(
        self, frames: ArrayLike, resets: ArrayLike | None
    ) -> Operation[NDArray[np.float32]]:
        """Asks what the session would answer; as `Session.preview`."""
        readings = self.frames.readings(frames, time_axes=2)
        branches, steps = readings.shape[:2]
        series = self.info.series_count
        begins = np.zeros((branches, steps, series), bool)
        if resets is not None:
            begins[:] = self._begins(resets, branches * steps).reshape(begins.shape)
        shape = (branches, steps, series, -1)
        with self._explained():
            outputs = yield from state_calls.preview_steps(
                self.route,
                self.id,
                self.life.generation,
                self.place.step,
                readings.reshape(shape),
                begins,
            )
        previewed = np.frombuffer(outputs, "<f4").copy()
        return previewed.reshape(self.shapes.output_shape(readings))

    def kept_outputs(
        self, first_step: int | None, count: int
    ) -> Operation[tuple[int, NDArray[np.float32]]]:
        """Gets outputs that the server still has; as `Session.kept_outputs`."""
        with self._explained():
            kept = yield from state_calls.get_outputs(
                self.route,
                self.id,
                self.life.generation,
                first_step=first_step,
                step_count=count,
            )
        return kept.first_step, self.shapes.outputs(kept.outputs)

    def fork(self, session: str, **wanted: Any) -> Operation[SessionInfo]:
        """Makes a session that goes on from here; as `Session.fork`."""
        with self._explained():
            return (
                yield from state_calls.fork_session(
                    self.route,
                    self.id,
                    self.life.generation,
                    session,
                    step=self.place.step,
                    **wanted,
                )
            )

    def export(self, *, window: bool, end: bool) -> Operation[bytes]:
        """Exports the session; as `Session.export`."""
        with self._explained():
            return (
                yield from state_calls.export_session(
                    self.route, self.id, self.life.generation, window=window, end=end
                )
            )

    def migrate(self, version: str, burn_in: ArrayLike | None) -> Operation[None]:
        """Goes on with another version of the model; as `Session.migrate`."""
        before, burning = self.life, None
        if burn_in is not None:
            burning = yield from SessionCore.opened(
                self.route,
                unary_calls.create_session(
                    self.route,
                    model=self.info.model,
                    model_version=version,
                    series_count=self.info.series_count,
                    idle_ttl_s=_BURN_IN_TTL_S,
                    labels={"burn-in": self.id},
                ),
                "raise",
            )
        try:
            if burning is not None:
                yield from burning.steps(np.asarray(burn_in), None)
            with self._explained():
                info = yield from state_calls.migrate_session(
                    self.route,
                    self.id,
                    before.generation,
                    version,
                    burnt_in=None if burning is None else burning.info,
                )
        except errors.TickcellError:
            if burning is not None:
                yield from burning.delete()
            raise
        if burning is not None:
            yield from burning.delete()
        self.begin(info, (*before.ended, before.generation))
        self._model = None

    def touch(self) -> Operation[None]:
        """Renews the session's time to live."""
        self.check_not_closed()
        with self._explained():
            self.info = yield from unary_calls.touch_session(
                self.route, self.id, self.life.generation
            )

    def reset(self) -> Operation[None]:
        """Starts again from what the session was created with, under a new generation."""
        ended = self.life
        with self._explained():
            info = yield from unary_calls.reset_session(self.route, self.id, ended.generation)
        self.begin(info, (*ended.ended, ended.generation))
        self.unanswered.restart()

    def delete(self) -> Operation[None]:
        """Deletes the session; one that has ended, or was reset by others, is left at that."""
        try:
            yield from unary_calls.delete_session(self.route, self.id, self.life.generation)
        except errors.SessionEndedError:
            pass
        except errors.SessionClaimedError:
            _log.warning("%s: another caller has claimed it; leaving it alone", self.id)
        except errors.SessionRestartedError as error:
            if isinstance(self.life.explained(error), errors.ResetLostError):
                _log.warning("%s: its reset was lost; leaving the previous life alone", self.id)
            else:
                _log.warning("%s: others have begun it anew; leaving that life alone", self.id)

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

    def bounds(
        self, drawing: Drawing | KeptFrames | None, *, max_chunk: int | None, backlog: int | None
    ) -> Bounds:
        """Returns what holds for a stream; the arguments are those of `Session.stream`.

        Args:
          drawing: what draws for it; None if its frames come from the caller.
          max_chunk: as for `Session.stream`.
          backlog: as for `Session.stream`.

        Raises:
          UsageError: one is invalid.
        """
        window = self.life.window
        are_there = drawing is not None and drawing.keeps_frames
        chunk = self.chunk_of_many if are_there else self.max_half_chunk
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

    def end_stream(self, stream: PipelineCore) -> None:
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
