"""Frames that are all available, in a list or an array: taken as far as there is room.

Nothing has to wait for such a source, so it needs no thread, and taking a frame does not
remove it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tickcell.client.frames import Encoder
    from tickcell.client.pipeline_core import PipelineCore

_Pipeline = TypeVar("_Pipeline", bound="PipelineCore")


def are_kept(source: Iterable[Any]) -> bool:
    """Whether a source's frames can be had again by their index."""
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


class KeptFrames:
    """A list or an array of frames, for one pipeline: what `Drawing` is to an iterator.

    Attributes:
      iterator: over the source.
      failure: what the source raised, or why its next frame cannot be sent.
      is_exhausted: whether the source has no more frames.
    """

    keeps_frames = True
    is_open = False

    def __init__(self, source: Iterable[Any], encoder: Encoder) -> None:
        """Begins with nothing taken."""
        self.iterator: Iterator[Any] = iter(source)
        self.failure: BaseException | None = None
        self.is_exhausted = False
        self._encoder = encoder
        self._array = source if isinstance(source, np.ndarray) else None
        self._taken = 0
        self._pipeline: PipelineCore | None = None

    def feed(self, open_pipeline: Callable[[], _Pipeline], *, can_wait: bool = True) -> _Pipeline:
        """Opens the pipeline to which `fill` gives the frames, which wait until there is room."""
        del can_wait
        self._pipeline = pipeline = open_pipeline()
        return pipeline

    def fill(self) -> None:
        """Gives the pipeline as many frames as it has room for."""
        pipeline = self._pipeline
        if pipeline is None or self.is_exhausted or self.failure is not None:
            return
        room = pipeline.room
        if not room:
            return
        encoded = self._encoded(room)
        if encoded:
            pipeline.push(*encoded)
        if len(encoded) < room:
            self.is_exhausted = self.failure is None
            pipeline.finish()

    def leave(self) -> None:
        """Takes no more."""
        self._pipeline = None

    def check(self) -> None:
        """Raises the failure, once."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _encoded(self, count: int) -> list[bytes]:
        """Takes so many frames, or those up to the end or to one that fails."""
        if self._array is not None:
            frames: Any = self._array[self._taken : self._taken + count]
        else:
            frames = self._drawn(count)
        self._taken += len(frames)
        together = self._encoder.several(frames) if len(frames) else []
        return self._one_by_one(frames) if together is None else together

    def _drawn(self, count: int) -> list[Any]:
        frames: list[Any] = []
        try:
            # One by one, so that those before a failure are here.
            frames.extend(itertools.islice(self.iterator, count))
        except Exception as failure:  # noqa: BLE001 - raised once its turn has come
            self.failure = failure
        return frames

    def _one_by_one(self, frames: Iterable[Any]) -> list[bytes]:
        encoded: list[bytes] = []
        for frame in frames:
            try:
                encoded.append(self._encoder.one(frame, ahead=len(encoded)))
            except Exception as failure:  # noqa: BLE001 - raised once its turn has come
                self.failure = failure
                break
        return encoded
