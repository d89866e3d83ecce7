"""Frames drawn from an iterator beside a loop: none is lost, however the loop is left.

A source, such as a pipe from a robot, may block, and available outputs must not wait
for it. Nor can it be stopped: when a stream is left, a draw may still be open. It stays
open, and its frame is kept for the stream that continues, or for the session's
`unanswered`.

An iterator is drawn from in a thread of its own, and an asynchronous one by a task.
"""

from __future__ import annotations

import abc
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tickcell.client.frames import Encoder
    from tickcell.client.pipeline_core import PipelineCore

_Pipeline = TypeVar("_Pipeline", bound="PipelineCore")

# The iterators from which somebody draws, by identity: never two threads in one.
_busy: dict[int, Drawing] = {}
_busy_lock = threading.Lock()

_END = object()


class Drawing(abc.ABC):
    """One iterator, drawn from for one pipeline after another.

    The rules; who draws, a thread or a task, is the *runner*.

    Attributes:
      iterator: over the source; the source itself, if that is an iterator.
      keeps_frames: whether drawing takes no frame away; see `KeptFrames`.
    """

    keeps_frames = False

    def __init__(
        self,
        iterator: Any,
        encoder: Encoder,
        keep: Callable[[bytes], None],
    ) -> None:
        """Begins with nothing drawn.

        Args:
          iterator: over the source.
          encoder: returns a frame as a pipeline takes it.
          keep: takes a frame that comes when there is no pipeline for it. It is called by
            the runner, where no Ctrl-C strikes.
        """
        self.iterator = iterator
        self._encoder = encoder
        self._keep = keep
        self._lock = threading.Lock()
        self._pipeline: PipelineCore | None = None
        self._can_wait = True
        self._runner: Any = None
        self._is_open = False
        self._is_exhausted = False
        self._failure: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether a frame is being drawn right now."""
        with self._lock:
            return self._is_open

    @property
    def is_exhausted(self) -> bool:
        """Whether the source has no more frames."""
        with self._lock:
            return self._is_exhausted

    @property
    def failure(self) -> BaseException | None:
        """What the source raised, or why its last frame cannot be sent, until it is raised."""
        with self._lock:
            return self._failure

    def feed(self, open_pipeline: Callable[[], _Pipeline], *, can_wait: bool) -> _Pipeline:
        """Draws frames for a pipeline until `leave`.

        Args:
          open_pipeline: opens it, when no frame can come in between any more.
          can_wait: whether the source waits while there is no room; otherwise the
            pipeline fails with a BacklogError.

        Raises:
          UsageError: another session draws from the iterator.
        """
        with self._lock:
            self._claim()
            pipeline = open_pipeline()
            self._can_wait = can_wait
            self._pipeline = pipeline
            if self._is_exhausted or self._failure is not None:
                pipeline.finish()
            elif not self._is_running():
                # Interrupted in its start, one that runs all the same finds another here.
                self._runner = self._new_runner()
                self._start()
            return pipeline

    def fill(self) -> None:  # noqa: B027 - both leave it to their runner
        """Leaves it to the runner to give the pipeline what it has room for."""

    def leave(self) -> None:
        """Draws no more; a draw that is open brings one more frame, which is kept."""
        with self._lock:
            self._pipeline = None
            self._release()

    def check(self) -> None:
        """Raises the failure, once."""
        with self._lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    @abc.abstractmethod
    def _is_running(self) -> bool:
        """Whether the runner has begun, and will look for another pipeline."""

    @abc.abstractmethod
    def _new_runner(self) -> Any:
        """Returns what will draw, which does not do so yet."""

    @abc.abstractmethod
    def _start(self) -> None:
        """Lets the runner draw."""

    def _next_pipeline(self, runner: Any) -> PipelineCore | None:
        """Returns the pipeline to draw for; None, and the runner ends, if there is none."""
        with self._lock:
            if self._runner is not runner:
                return None
            if self._is_exhausted or self._failure is not None or self._pipeline is None:
                self._runner = None
                return None
            return self._pipeline

    def _is_through_with(self, pipeline: PipelineCore) -> bool:
        """Whether the runner ends, since a pipeline that has failed is the one to draw for."""
        with self._lock:
            if self._pipeline is not pipeline:
                return False
            self._runner = None
            return True

    def _open_draw(self, pipeline: PipelineCore) -> bool:
        with self._lock:
            self._is_open = self._pipeline is pipeline
            return self._is_open

    def _close_draw(
        self, encoded: bytes | None = None, failure: BaseException | None = None
    ) -> None:
        """Hands the result of a draw to whoever needs it now."""
        with self._lock:
            self._is_open = False
            if encoded is not None:
                self._hand_over(encoded)
            else:
                self._failure = failure
                self._is_exhausted = failure is None
                if self._pipeline is not None:
                    self._pipeline.finish()
            self._release()

    def _hand_over(self, encoded: bytes) -> None:
        if self._pipeline is None:
            self._keep(encoded)
            return
        try:
            self._pipeline.push(encoded)
        except errors.TickcellError as error:
            # There is no room for it, or the session was closed meanwhile.
            self._keep(encoded)
            self._pipeline.fail(error)

    def _claim(self) -> None:
        with _busy_lock:
            if _busy.setdefault(id(self.iterator), self) is not self:
                raise errors.UsageError(
                    f"{self.iterator!r}: another stream draws from this iterator, or a draw that "
                    "it began has not returned yet; one iterator is for one session at a time."
                )

    def _release(self) -> None:
        """Gives the iterator back, unless somebody draws from it."""
        if self._pipeline is None and not self._is_open:
            with _busy_lock:
                if _busy.get(id(self.iterator)) is self:
                    del _busy[id(self.iterator)]


class ThreadDrawing(Drawing):
    """An iterator, drawn from in a thread."""

    def __init__(
        self, source: Iterable[Any], encoder: Encoder, keep: Callable[[bytes], None]
    ) -> None:
        """Begins with nothing drawn from a source; the rest is as for `Drawing`."""
        super().__init__(iter(source), encoder, keep)

    def _is_running(self) -> bool:
        return self._runner is not None and self._runner.ident is not None

    def _new_runner(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="tickcell-frames", daemon=True)

    def _start(self) -> None:
        self._runner.start()

    def _run(self) -> None:
        while (pipeline := self._next_pipeline(threading.current_thread())) is not None:
            # Room comes first: a frame that is drawn is one that can be kept.
            if not (pipeline.wait_for_room() if self._can_wait else pipeline.needs_frames):
                if self._is_through_with(pipeline):
                    return
                continue
            if not self._open_draw(pipeline):
                continue
            try:
                frame: Any = next(self.iterator, _END)
                encoded = None if frame is _END else self._encoder.one(frame)
            except BaseException as failure:  # noqa: BLE001 - the caller's thread raises it
                self._close_draw(failure=failure)
            else:
                self._close_draw(encoded)
