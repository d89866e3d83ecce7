"""The last steps that a caller has the outputs of, for a store that is put back to before them.

A restored backup, or a standby that took over without the last commits, stands at an
earlier step than the one that was answered. Its next step is then a gap. The frames in
between are kept here, so they are sent again, and the outputs must be the same bits.

Pure: no gRPC, no threads, no clock.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import deque
from typing import NamedTuple

from tickcell.client import errors
from tickcell.client.life import Chunk, Place
from tickcell.wire import history

# How long ago a step may have been answered that the store has lost: twice the longest loss
# window that a store of tickcell has by its settings.
KEPT_S = 5.0
KEPT_BYTES = 16 * 1024 * 1024

# What a step takes beside its frame: a tuple, four small objects and a place in a deque.
_STEP_BYTES = 300

_DIGEST_SIZE = 8

_log = logging.getLogger("tickcell.client")


class Kept(NamedTuple):
    """One step that was answered.

    Attributes:
      frame: `[B, F]` float32 as bytes.
      history: before the step; None where that is not known.
      digest: of its outputs.
      at: when it was answered last, in seconds.
    """

    step: int
    frame: bytes
    history: bytes | None
    digest: bytes
    at: float


class Recall:
    """Consecutive steps of one life whose outputs the caller has, the newest last.

    Ctrl-C may strike anywhere here: each change is one step taken or let go.

    Attributes:
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
        self._session = session
        self._window = window
        self._steps: deque[Kept] = deque()
        # The step after the newest, where none is kept.
        self._empty_at = step
        self.answered = step
        self.rollback_count = 0

    @property
    def first(self) -> int:
        """The oldest step that is kept."""
        return self._steps[0].step if self._steps else self._empty_at

    @property
    def end(self) -> int:
        """The step after the newest that is kept."""
        return self._steps[-1].step + 1 if self._steps else self._empty_at

    def add(self, kept: Kept) -> None:
        """Takes the next step; one that is here already is left as it is."""
        if kept.step < self.end:
            return
        assert kept.step == self.end, (kept.step, self.end)
        self._steps.append(kept)
        self._empty_at = kept.step + 1
        while self._is_enough(kept.at):
            self._steps.popleft()

    def add_all(self, chunk: Chunk, outputs: bytes, now: float) -> None:
        """Takes the steps of a chunk that was answered."""
        size, width = len(outputs) // chunk.step_count, len(chunk.frames) // chunk.step_count
        before = None
        if chunk.expected_history is not None and chunk.histories is not None:
            before = chunk.expected_history + chunk.histories
        for index in range(chunk.step_count):
            self.add(
                Kept(
                    chunk.first_step + index,
                    chunk.frames[index * width :][:width],
                    None if before is None else before[index * history.SIZE :][: history.SIZE],
                    digest_of(outputs[index * size :][:size]),
                    now,
                )
            )
        self.answered = chunk.first_step + chunk.step_count

    def rewind(self, step: int) -> None:
        """Forgets the steps from one on, which the caller sends again by itself."""
        self._empty_at = step
        self.answered = min(self.answered, step)
        while self._steps and self.end > step:
            self._steps.pop()

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
                f"{self._session}: the store was put back to step {stands}, and {missing} are no "
                f"more kept here, only those from {self.first} on; rewind({stands}) and send the "
                "frames from there on again.",
                {**gap.metadata, "missing_from": str(stands), "missing_to": str(self.first - 1)},
            )
        if stands < self.answered:
            self.rollback_count += 1
            _log.warning(
                "%s: the store was put back, from step %d to step %d; sending the steps in "
                "between again",
                *(self._session, self.answered, stands),
            )
            self.answered = stands
        return stands

    def kept(self, step: int) -> list[Kept]:
        """Returns the steps from one on, which must not be before `first`."""
        return list(itertools.islice(self._steps, step - self.first, None))

    def chunk(self, step: int, max_steps: int) -> Chunk:
        """Returns a request for the steps from one on."""
        steps = self.kept(step)[:max_steps]
        frames = b"".join(each.frame for each in steps)
        return Chunk.of(Place(step, steps[0].history), len(steps), frames)

    def answer(self, chunk: Chunk, outputs: bytes, now: float) -> None:
        """Takes the outputs of steps that were sent again.

        Raises:
          HistoryDiffersError: they are not those that the caller has.
        """
        size = len(outputs) // chunk.step_count
        steps = self.kept(chunk.first_step)[: chunk.step_count]
        for index, each in enumerate(steps):
            self.check(each.step, outputs[index * size :][:size], each.digest)
            self.renew(each.step, now)
        self.answered = chunk.first_step + chunk.step_count

    def renew(self, step: int, now: float) -> None:
        """Takes that a step was answered again: from now on it may be lost once more."""
        index = step - self.first
        if 0 <= index < len(self._steps):
            self._steps[index] = self._steps[index]._replace(at=now)

    def check(self, step: int, outputs: bytes, digest: bytes) -> None:
        """Checks that the outputs of a step that was sent again are those from before.

        Raises:
          HistoryDiffersError: they are not.
        """
        if digest_of(outputs) != digest:
            raise errors.HistoryDiffersError(
                f"{self._session}: step {step} was sent again to a store that was put back, and "
                "its outputs are not those from before, though its frames are: another kind of "
                "CPU computes it now, or the state that was put back is not this session's.",
                step,
            )

    def _is_enough(self, now: float) -> bool:
        """Whether the oldest step is one too many."""
        if not self._steps:
            return False
        # All frames of a session are of one size.
        oldest, count = self._steps[0], len(self._steps)
        if count * (len(oldest.frame) + _STEP_BYTES) > KEPT_BYTES:
            return True
        return count > self._window and now - oldest.at > KEPT_S


def digest_of(outputs: bytes) -> bytes:
    """Returns what stands for the outputs of a step."""
    return hashlib.blake2b(outputs, digest_size=_DIGEST_SIZE).digest()
