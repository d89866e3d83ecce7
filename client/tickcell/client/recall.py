"""The last steps that a caller has the outputs of, for a store that is put back to before them.

A restored backup, or a standby that took over without the last commits, stands at an
earlier step than the one that was answered. Its next step is then a gap. The steps in
between are kept here, so they are sent again, and the outputs must be the same bits.

Pure: no gRPC, no threads, no clock.
"""

from __future__ import annotations

import bisect
import logging
from collections import deque
from typing import TYPE_CHECKING

from tickcell.client import errors
from tickcell.client.answered import Answered
from tickcell.client.life import Chunk, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long ago a step may have been answered that the store has lost: twice the longest loss
# window that a store of tickcell has by its settings.
KEPT_S = 5.0
KEPT_BYTES = 16 * 1024 * 1024

# What steps that were answered together take beside their vectors: two tuples, some small
# objects and a place in a deque.
_ANSWERED_BYTES = 400

_log = logging.getLogger("tickcell.client")


class Recall:
    """Consecutive steps of one life whose outputs the caller has, the newest last.

    Ctrl-C may strike anywhere here: each change is one assignment, or one call that
    takes some steps or lets them go.

    Attributes:
      session: its id, for texts.
      answered: the first step without an answer that the store still has. It goes down
        when the store was put back, and up with each answer.
      rollback_count: how often it went down.
    """

    def __init__(self, session: str, step: int, window: int) -> None:
        """Begins with none.

        Args:
          session: its id, for texts.
          step: the session's next step.
          window: the fewest steps that are kept, as far as there is room.
        """
        self.session = session
        self._window = window
        # As they were answered, each followed by the next one's first step.
        self._kept: deque[Answered] = deque()
        # The step after the newest, where none is kept.
        self._empty_at = step
        self.answered = step
        self.rollback_count = 0

    @property
    def first(self) -> int:
        """The oldest step that is kept."""
        return self._kept[0].first if self._kept else self._empty_at

    @property
    def end(self) -> int:
        """The step after the newest that is kept."""
        return self._kept[-1].end if self._kept else self._empty_at

    def add(self, answered: Answered) -> None:
        """Takes the next steps; those that are here already are left as they are."""
        kept, chunk = self._kept, answered.chunk
        first, own_end = chunk.first_step, kept[-1].end if kept else self._empty_at
        end = first + chunk.step_count
        if end <= own_end:
            return
        new = answered if first == own_end else answered.within(own_end, end)
        assert new.first == own_end, (new.first, own_end)
        kept.append(new)
        self._empty_at = end
        while self._kept and (excess := self._excess(answered.at)) > 0:
            oldest = self._kept[0]
            if excess < oldest.chunk.step_count:
                self._kept[0] = oldest.within(oldest.first + excess, oldest.end)
                break
            self._kept.popleft()

    def add_all(self, chunk: Chunk, outputs: bytes, now: float) -> None:
        """Takes the steps of a chunk that was answered."""
        self.add(Answered(chunk, outputs, now))
        self.answered = chunk.first_step + chunk.step_count

    def rewind(self, step: int) -> None:
        """Forgets the steps from one on, which the caller sends again by itself."""
        self._empty_at = step
        self.answered = min(self.answered, step)
        while self._kept and self.end > step:
            newest = self._kept[-1]
            if newest.first < step:
                self._kept[-1] = newest.within(newest.first, step)
            else:
                self._kept.pop()

    def roll_back(self, gap: errors.StepGapError, first_step: int) -> int:
        """Takes that a step was refused as a gap; returns the step from which to send again.

        Args:
          gap: the refusal.
          first_step: of the request.

        Raises:
          StepGapError: that is no news of the store, or the steps in between are not kept.
        """
        stands = int(gap.metadata.get("next_step", first_step))
        if not 0 <= stands < first_step:
            raise gap
        if stands < self.first:
            missing = f"steps {stands} to {self.first - 1}"
            raise errors.StepGapError(
                f"{self.session}: the store was put back to step {stands}, and {missing} are no "
                f"longer kept here, only those from {self.first} on; rewind({stands}) and send the "
                "frames from there on again.",
                {**gap.metadata, "missing_from": str(stands), "missing_to": str(self.first - 1)},
            )
        if stands < self.answered:
            self.rollback_count += 1
            _log.warning(
                "%s: the store was put back, from step %d to step %d; sending the steps in "
                "between again",
                *(self.session, self.answered, stands),
            )
            self.answered = stands
        return stands

    def parts(self, first: int, end: int) -> Iterator[Answered]:
        """Yields what is kept of the steps that are from one on and before another."""
        index = self._index(first)
        while index < len(self._kept) and self._kept[index].first < end:
            yield self._kept[index].within(first, end)
            index += 1

    def chunk(self, step: int, max_steps: int) -> Chunk:
        """Returns a request for the steps from one on, of which one must be kept."""
        parts = list(self.parts(step, step + max_steps))
        frames = b"".join(part.chunk.frames for part in parts)
        place, count = Place(step, parts[0].history_before(step)), parts[-1].end - step
        series_count = max(part.chunk.series_count for part in parts)
        resets = [
            (part.first - step) * series_count + index
            for part in parts
            for index in part.chunk.resets
        ]
        return Chunk.of(place, count, frames, tuple(resets), series_count)

    def answer(self, chunk: Chunk, outputs: bytes, now: float) -> None:
        """Takes the outputs of steps that were sent again.

        Raises:
          HistoryDiffersError: they are not those that the caller has.
        """
        again = Answered(chunk, outputs, now)
        self.check(again)
        self.renew(again)
        self.answered = again.end

    def renew(self, again: Answered) -> None:
        """Takes that steps were answered again: from now on they may be lost once more."""
        index = self._index(again.first)
        while index < len(self._kept) and self._kept[index].first < again.end:
            self._kept[index] = self._kept[index]._replace(at=again.at)
            index += 1

    def check(self, again: Answered) -> None:
        """Checks that steps which were sent again have the outputs from before.

        Raises:
          HistoryDiffersError: they have not.
        """
        for part in self.parts(again.first, again.end):
            check_same(self.session, part, again)

    def _index(self, step: int) -> int:
        """Returns which of those that are kept has a step; the first, where none is so old."""
        return max(0, bisect.bisect_right(self._kept, step, key=lambda each: each.first) - 1)

    def _excess(self, now: float) -> int:
        """Returns how many of the oldest steps, of those that are kept, are too many."""
        chunk, outputs, at = self._kept[0]
        count = self._empty_at - chunk.first_step
        # All steps of a session are of one size.
        size = count * (len(chunk.frames) + len(outputs)) // chunk.step_count
        if size + len(self._kept) * _ANSWERED_BYTES > KEPT_BYTES:
            return chunk.step_count
        return count - self._window if now - at > KEPT_S else 0


def check_same(session: str, before: Answered, again: Answered) -> None:
    """Checks that steps which were sent again have the outputs from before.

    Args:
      session: its id, for the text.
      before: steps as they were answered.
      again: all of them once more, and others beside.

    Raises:
      HistoryDiffersError: a step has other outputs.
    """
    if again.outputs_of(before.first, before.end) == before.outputs:
        return
    step = next(
        step
        for step in range(before.first, before.end)
        if before.outputs_of(step, step + 1) != again.outputs_of(step, step + 1)
    )
    raise errors.HistoryDiffersError(
        f"{session}: step {step} was sent again to a store that was put back, and its outputs "
        "differ from before, though its frames do not: another kind of CPU computes it now, or "
        "the state that was put back is not this session's.",
        step,
    )
