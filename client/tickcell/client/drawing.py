"""Frames drawn from an iterator, in a thread of its own: none is lost, whoever leaves when.

A source may block, such as a pipe from a robot, and outputs that are there must
not wait for it. Nor can it be told to stop: when a stream is left, its thread may be
inside the source still. That draw stays open, and the frame that it brings is kept
for the stream that goes on, or for the session's `unanswered`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tickcell.client.frames import Encoder
    from tickcell.client.pipeline import Pipeline

# The iterators from which somebody draws, by identity: never two threads in one.
_busy: dict[int, Drawing] = {}
_busy_lock = threading.Lock()

_END = object()


class Drawing:
    """One iterator, drawn from for one pipeline after another.

    Attributes:
      iterator: over the source; the source itself, if that is an iterator.
      keeps_frames: whether drawing takes no frame away; see `KeptFrames`.
    """

    keeps_frames = False

    def __init__(
        self,
        source: Iterable[Any],
        encoder: Encoder,
        keep: Callable[[bytes], None],
    ) -> None:
        """Begins with nothing drawn.

        Args:
          source: of the frames.
          encoder: returns a frame as a pipeline takes it.
          keep: takes a frame that comes when there is no pipeline for it. It is called in
            the thread that draws, where no Ctrl-C strikes.
        """
        self.iterator: Iterator[Any] = iter(source)
        self._encoder = encoder
        self._keep = keep
        self._lock = threading.Lock()
        self._pipeline: Pipeline | None = None
        self._can_wait = True
        self._thread: threading.Thread | None = None
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

    def feed(self, open_pipeline: Callable[[], Pipeline], *, can_wait: bool) -> Pipeline:
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
            elif self._thread is None or self._thread.ident is None:
                # Interrupted in its start, one that runs all the same finds another here.
                self._thread = threading.Thread(
                    target=self._run, name="tickcell-frames", daemon=True
                )
                self._thread.start()
            return pipeline

    def fill(self) -> None:
        """Leaves it to the thread to give the pipeline what it has room for."""

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

    def _run(self) -> None:
        while (pipeline := self._next_pipeline()) is not None:
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

    def _next_pipeline(self) -> Pipeline | None:
        """Returns the pipeline to draw for; None, and the thread ends, if there is none."""
        with self._lock:
            if self._thread is not threading.current_thread():
                return None
            if self._is_exhausted or self._failure is not None or self._pipeline is None:
                self._thread = None
                return None
            return self._pipeline

    def _is_through_with(self, pipeline: Pipeline) -> bool:
        """Whether the thread ends, since a pipeline that has failed is the one to draw for."""
        with self._lock:
            if self._pipeline is not pipeline:
                return False
            self._thread = None
            return True

    def _open_draw(self, pipeline: Pipeline) -> bool:
        with self._lock:
            self._is_open = self._pipeline is pipeline
            return self._is_open

    def _close_draw(
        self, encoded: bytes | None = None, failure: BaseException | None = None
    ) -> None:
        """Hands what a draw has brought to whoever it is for now."""
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
                    "it began is open still; one iterator is for one session at a time."
                )

    def _release(self) -> None:
        """Gives the iterator back, unless somebody draws from it."""
        if self._pipeline is None and not self._is_open:
            with _busy_lock:
                if _busy.get(id(self.iterator)) is self:
                    del _busy[id(self.iterator)]
