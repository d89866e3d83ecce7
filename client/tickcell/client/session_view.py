"""What a session says of itself, whichever way it is driven."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tickcell.client.resources import SessionInfo
    from tickcell.client.session_core import SessionCore


class SessionView:
    """A session as its caller sees it: all that needs no call."""

    def __init__(self, core: SessionCore) -> None:
        self._core = core

    def __repr__(self) -> str:
        kind, address = type(self).__name__, self._core.route.address
        return f"<{kind} {self.id} at step {self.next_step} on {address}>"

    @property
    def id(self) -> str:
        """The session's id."""
        return self._core.id

    @property
    def info(self) -> SessionInfo:
        """The session as the server described it last; steps do not change this."""
        return self._core.info

    @property
    def next_step(self) -> int:
        """The first step whose output the caller does not have."""
        stream = self._core.stream
        return self._core.place.step if stream is None else stream.flight.first

    @property
    def history(self) -> bytes | None:
        """The history before `next_step`: 8 bytes that stand for all frames until then.

        Two sessions with the same history were given the same frames. Each request names
        it, so that another writer on the session is found out. None after `rewind`, until
        the next answer.
        """
        stream = self._core.stream
        return (self._core.place if stream is None else stream.flight.place).history

    @property
    def rollback_count(self) -> int:
        """How often the store was found put back, to before a step that it had answered.

        Each time the steps in between were sent again, and gave the same outputs.
        """
        return self._core.rollback_count

    @property
    def in_flight(self) -> int:
        """The number of steps that are sent and not answered; above 0 only in a stream."""
        stream = self._core.stream
        return 0 if stream is None else stream.in_flight

    @property
    def unanswered(self) -> NDArray[np.float32]:
        """The frames from `next_step` on that were taken and whose outputs nobody has.

        `[N, B, F]`, or `[N, F]` where B = 1. After a stream or a paced loop was left, read
        them and send them first, or give `stream` the same iterator, which does that. Some
        may have been applied. A frame goes when it is answered, or when other frames are
        streamed after it was read. While `drawing`, one more may come.
        """
        core = self._core
        in_loop = None if core.stream is None else core.stream.frames
        return core.shapes.frames(b"".join(core.unanswered.read(in_loop)))

    @property
    def drawing(self) -> bool:
        """Whether a stream is inside its source, which will bring a frame."""
        return self._core.unanswered.is_drawing

    @property
    def dropout_counts(self) -> dict[str, int]:
        """How many readings were held or clipped, by sensor."""
        return self._core.frames.dropout_counts

    @property
    def series_dropout_counts(self) -> dict[int, dict[str, int]]:
        """How many readings were held or clipped, by series, of those with any, and sensor."""
        return self._core.frames.series_dropout_counts
