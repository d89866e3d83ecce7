"""Frames from an iterable into a pipeline, in a thread of their own.

A source may block, such as a pipe from a robot, and outputs that are there must
not wait for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.client.pipeline import Pipeline


class Feeder:
    """Pushes each frame as soon as it is there.

    Attributes:
      rest: the frame that was drawn from the source and not taken by the pipeline.
    """

    def __init__(self, pipeline: Pipeline, frames: Iterator[bytes], *, can_wait: bool) -> None:
        """Prepares the thread.

        Args:
          pipeline: takes the frames, and is told when no more come.
          frames: the source.
          can_wait: whether the source waits while there is no room; otherwise the pipeline
            fails with a BacklogError.
        """
        self._pipeline = pipeline
        self._frames = frames
        self._can_wait = can_wait
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tickcell-frames", daemon=True)
        self.rest = b""

    def start(self) -> None:
        """Starts the thread, which ends with the source or with the pipeline."""
        self._thread.start()

    def check(self) -> None:
        """Raises what the source raised, if it did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._feed()
        except BaseException as failure:  # noqa: BLE001 - the caller's thread raises it
            self._failure = failure
        self._pipeline.finish()

    def _feed(self) -> None:
        # Room comes first: a frame that is drawn is one that can be kept.
        while not self._can_wait or self._pipeline.wait_for_room():
            frame = next(self._frames, None)
            if frame is None:
                return
            try:
                self._pipeline.push(frame)
            except errors.BacklogError as error:
                self.rest = frame
                self._pipeline.fail(error)
                return
