"""What a session's loops took and its caller has no output for: frames, and an open draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tickcell.client import errors
from tickcell.client.drawing import Drawing, ThreadDrawing
from tickcell.client.kept_frames import KeptFrames, are_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tickcell.client.frames import Encoder


class Unanswered:
    """Frames of consecutive steps, the first of which is the session's next one.

    A frame leaves when it is answered, when it goes on in another loop, or when the
    caller has read it and lets other frames come next. Nothing else takes one away, not
    even Ctrl-C: each change here is one assignment.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        # Those that came after their loop was left. The list only grows.
        self._late: list[bytes] = []
        # The frames that a loop left, and from where on the late ones follow them.
        self._kept: tuple[list[bytes], int] = ([], 0)
        # How many of all these the caller has, by reading them or in a list of its own.
        self._known = 0
        # Of the loop that is open: what draws for it, and where late ones follow its own.
        self._open: Drawing | KeptFrames | None = None
        self._open_late_from = 0
        # What drew for the stream before from a source that may have more, and is gone on
        # with by giving it again; and what drew for the loop that left `_kept`.
        self._left: Drawing | None = None
        self._kept_by: Drawing | KeptFrames | None = None

    @property
    def is_drawing(self) -> bool:
        """Whether the thread of a stream, open or left, is inside its source."""
        return any(drawing is not None and drawing.is_open for drawing in (self._open, self._left))

    @property
    def has_frames(self) -> bool:
        """Whether a loop that was left has left any."""
        frames, late_from = self._kept
        return bool(frames) or late_from < len(self._late)

    def read(self, in_loop: Sequence[bytes] | None) -> list[bytes]:
        """Returns the frames, which are the caller's to send from now on.

        Args:
          in_loop: those of the loop that is open; None if none is.
        """
        if in_loop is not None:
            return [*in_loop, *self._late[self._open_late_from :]]
        frames = self._frames
        self._known = len(frames)
        return frames

    def answer(self, frame: bytes) -> None:
        """Forgets the first frame, if it is this one, whose output the caller has."""
        frames, late_from = self._kept
        if not self._frames or self._frames[0] != frame:
            return
        self._kept = (frames[1:], late_from) if frames else ([], late_from + 1)
        self._known = max(0, self._known - 1)

    def drawing_from(
        self,
        frames: Any,
        encoder: Encoder,
        kind: Callable[[Any, Encoder, Callable[[bytes], None]], Drawing] = ThreadDrawing,
    ) -> Drawing | KeptFrames:
        """Returns what draws from a source: the one before, if it is the same iterator.

        Args:
          frames: the source.
          encoder: returns its frames as a pipeline takes them.
          kind: makes what draws from an iterator.

        Raises:
          UsageError: another source would lose a frame.
          BaseException: what the source before raised, and nobody has heard of.
        """
        if are_kept(frames):
            # Such as what was read here, while the draw before is open still.
            self._check_known(len(self._kept[0]))
            return KeptFrames(frames, encoder)
        drawing = kind(frames, encoder, self._late.append)
        if self._left is not None and self._left.iterator is drawing.iterator:
            if self._kept_by is not self._left:
                self._check_known(len(self._kept[0]))
            return self._left
        self.check_none_lost()
        return drawing

    def check_none_lost(self) -> None:
        """Checks that other frames than these may come next.

        Raises:
          UsageError: a frame would be lost.
          BaseException: what the source before raised, and nobody has heard of.
        """
        if self.is_drawing:
            raise errors.UsageError(
                f"{self._session}: a frame is being drawn from the iterator of the previous "
                "stream: continue with that iterator, or wait until session.drawing is false."
            )
        self._check_known(len(self._frames))
        if self._left is not None and self._left.failure is not None:
            # The caller has the frames, and goes on with them after this.
            self.restart()
            self._left.check()

    def begin(self, drawing: Drawing | KeptFrames | None) -> list[bytes]:
        """Returns the frames with which a loop begins, which is open from now on.

        Args:
          drawing: what draws for it; None if its frames come from the caller.
        """
        goes_on = drawing is not None and drawing is self._left
        self._open_late_from = len(self._late)
        if drawing is not None and drawing.keeps_frames:
            # A draw may be open beside it: what comes of that, and what nobody has read
            # of it, is for later.
            frames, late_from = self._kept
            self._open_late_from = late_from + max(0, self._known - len(frames))
        self._open = drawing
        if not goes_on:
            return []
        return self._frames if self._kept_by is drawing else self._late[self._kept[1] :]

    def stop_drawing(self) -> None:
        """Lets nothing be drawn any more for the loop that is open."""
        if self._open is not None:
            self._open.leave()

    def leave(self, frames: Sequence[bytes]) -> None:
        """Keeps the frames, in order, that the loop leaves that was open."""
        drawing = self._open
        self._kept = (list(frames), self._open_late_from)
        self._kept_by = drawing
        keeps_frames = drawing is not None and drawing.keeps_frames
        # A list streamed between two streams of an iterator is most likely part of that.
        self._known = len(frames) if keeps_frames and self._left is None else 0
        if isinstance(drawing, Drawing):
            self._left = drawing if frames or not drawing.is_exhausted else None

    def restart(self) -> None:
        """Forgets the frames, as the session begins anew. A draw stays open."""
        self._kept = ([], len(self._late))

    @property
    def _frames(self) -> list[bytes]:
        frames, late_from = self._kept
        return [*frames, *self._late[late_from:]]

    def _check_known(self, count: int) -> None:
        if count > self._known:
            raise errors.UsageError(
                f"{self._session}: {count - self._known} frames of the previous loop have "
                "no output: continue with the same iterator, or read session.unanswered and "
                "send those frames first."
            )
