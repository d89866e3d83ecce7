"""Steps that were answered together: what went out, and what came back."""

from __future__ import annotations

from typing import NamedTuple

from tickcell.client.life import Chunk, Place
from tickcell.wire import history


class Answered(NamedTuple):
    """Consecutive steps and their outputs.

    Attributes:
      chunk: the steps as they were sent.
      outputs: `[T, B, O]` float32 as bytes.
      at: when they were answered last, in seconds.
    """

    chunk: Chunk
    outputs: bytes
    at: float

    @property
    def first(self) -> int:
        """The first step."""
        return self.chunk.first_step

    @property
    def end(self) -> int:
        """The step after the last."""
        return self.chunk.first_step + self.chunk.step_count

    @property
    def size(self) -> int:
        """The bytes of its vectors."""
        return len(self.chunk.frames) + len(self.outputs)

    def history_before(self, step: int) -> bytes | None:
        """Returns the history before one of the steps; None where it is not known."""
        index = step - self.first
        if index == 0 or self.chunk.histories is None:
            return self.chunk.expected_history if index == 0 else None
        return self.chunk.histories[: index * history.SIZE][-history.SIZE :]

    def frames_of(self, first: int, end: int) -> bytes:
        """Returns the frames of the steps that are from one on and before another."""
        return _part(self.chunk.frames, self.chunk, first, end)

    def resets_of(self, first: int, end: int) -> tuple[int, ...]:
        """Returns which series begin anew at these steps, counted from the first of them."""
        if not self.chunk.resets:
            return ()
        start, stop = ((step - self.first) * self.chunk.series_count for step in (first, end))
        return tuple(index - start for index in self.chunk.resets if start <= index < stop)

    def outputs_of(self, first: int, end: int) -> bytes:
        """Returns the outputs of the steps that are from one on and before another."""
        return _part(self.outputs, self.chunk, first, end)

    def within(self, first: int, end: int) -> Answered:
        """Returns the steps that are from one on and before another; there must be one."""
        own_first, own_end = self.first, self.end
        if first <= own_first and own_end <= end:
            return self
        first, end = max(first, own_first), min(end, own_end)
        histories = self.chunk.histories
        if histories is not None:
            histories = _part(histories, self.chunk, first, end)
        place = Place(first, self.history_before(first))
        chunk = Chunk(
            first,
            end - first,
            self.frames_of(first, end),
            place.history,
            self.resets_of(first, end),
            self.chunk.series_count,
            histories,
        )
        return Answered(chunk, self.outputs_of(first, end), self.at)


def _part(vectors: bytes, chunk: Chunk, first: int, end: int) -> bytes:
    """Returns what some steps of a chunk have in something that has as much for each."""
    size = len(vectors) // chunk.step_count
    start = max(0, first - chunk.first_step)
    return vectors[start * size : max(start, end - chunk.first_step) * size]
