"""A pipeline that takes every frame, and answers none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tickcell.client.pipeline import Pipeline


class RoomyPipeline:
    """Takes frames as a `Pipeline` does.

    Attributes:
      frames: what it took.
      before_room: what to do before it says that there is room.
    """

    needs_frames = True

    def __init__(self, before_room: Callable[[], object] = bool) -> None:
        self.frames: list[bytes] = []
        self.before_room = before_room

    @property
    def as_pipeline(self) -> Pipeline:
        return cast("Pipeline", self)

    def wait_for_room(self) -> bool:
        self.before_room()
        return True

    def push(self, *frames: bytes) -> int:
        self.frames.extend(frames)
        return len(self.frames) - len(frames)

    def finish(self) -> None:
        """Needs to do nothing."""
