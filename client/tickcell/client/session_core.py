"""A session as its caller has it, and every operation of its life: no I/O.

`Session` does the operations with threads, `AsyncSession` with asyncio (see `needs`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from tickcell.client import arguments, dropout, errors, unary_calls
from tickcell.client.backoff import BACKLOG_S
from tickcell.client.frames import Encoder
from tickcell.client.pipeline_core import Cargo
from tickcell.client.stepping import Stepping
from tickcell.client.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike

    from tickcell.client.drawing import Drawing
    from tickcell.client.kept_frames import KeptFrames
    from tickcell.client.needs import Operation
    from tickcell.client.pipeline_core import PipelineCore
    from tickcell.client.resources import Model, SessionInfo
    from tickcell.client.route import Route

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
        self.begin(info, (*ended.ended, ended.generation))
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
