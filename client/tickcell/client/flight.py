"""The steps of one session between the caller's frame and the caller's output.

One run of consecutive steps, cut by four indices that only grow, `sent` alone
excepted:

    first      the first step whose output the caller does not have
    answered   the first step whose reply has not come
    sent       the first step that has not been sent on this connection
    end        the step of the next frame that is pushed

    first <= answered <= sent <= end, and sent - first <= window

The last bound is the client's half of the promise: however a connection ends,
the server has applied at most `window` steps of which the caller does not have
the output, so it still has the outputs of all of them.

A store that was put back is the one exception: `answered` goes back, even below
`first`, to where the store stands. Until it is where it was, the outputs must be
those from before, and it is `sent - answered` that is bounded. Steps that the
caller has go to the `Recall`, from which they can be sent again.

Pure: no gRPC, no threads, no clock.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from typing import TYPE_CHECKING

from tickcell.client.answered import Answered
from tickcell.client.life import Chunk, Place
from tickcell.client.recall import Recall, check_same

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tickcell.client import errors


class Flight:
    """The frames and outputs of the steps whose outputs the caller does not have.

    Attributes:
      first: moved by the caller's thread, by an assignment and nothing else: whoever
        gets an output has it from then on, and Ctrl-C finds it had or not had.
    """

    def __init__(
        self,
        place: Place,
        window: int,
        frames: Iterable[bytes] = (),
        recall: Recall | None = None,
    ) -> None:
        """Begins with nothing in flight.

        Args:
          place: the step of the first frame, and the history before it.
          window: the most steps that may be sent and not yet had.
          frames: those of the first steps, where some wait already.
          recall: the steps before, and those that the caller will have; None for none before.
        """
        self.first = self.answered = self.sent = place.step
        self._window = window
        self._recall = recall or Recall("", place.step, window)
        # A step, and the frames from it on. It follows `first`, and `answered` where that
        # went back.
        self._frames: tuple[int, list[bytes]] = (place.step, list(frames))
        # What was answered and is not in the recall, in order.
        self._outputs: deque[Answered] = deque()
        # After those: the first step that never had an output here, and the history before it.
        self._next = place
        # Before `sent`.
        self._sent_history = place.history
        # What was sent and not answered, in order.
        self._chunks: deque[Chunk] = deque()

    @property
    def end(self) -> int:
        """The step of the next frame that is pushed."""
        base, frames = self._frames
        return base + len(frames)

    @property
    def in_flight(self) -> int:
        """The number of steps sent and not answered."""
        return self.sent - self.answered

    @property
    def waiting(self) -> int:
        """The number of steps whose outputs the caller does not have."""
        return self.end - self.first

    @property
    def unsent(self) -> int:
        """The number of steps that have not been sent on this connection."""
        return self.end - self.sent

    @property
    def room(self) -> int:
        """How many more steps the window has room for."""
        return self._window - (self.sent - min(self.first, self.answered))

    @property
    def can_send(self) -> bool:
        """Whether there is a step to send, and room for it in the window."""
        return self.unsent > 0 and self.room > 0

    def push(self, frames: Sequence[bytes]) -> int:
        """Takes the frames of the next steps, and returns the first step's index."""
        step = self.end
        self._frames[1].extend(frames)
        return step

    def send(self, max_steps: int) -> Chunk:
        """Marks the next steps as sent and returns them; `can_send` must hold."""
        count = min(max_steps, self.unsent, self.room)
        base, frames = self._frames
        start = self.sent - base
        data = b"".join(frames[start : start + count])
        chunk = Chunk.of(Place(self.sent, self._sent_history), count, data)
        self._chunks.append(chunk)
        self._sent_history = chunk.last_history
        self.sent += count
        return chunk

    @property
    def unanswered(self) -> Chunk | None:
        """The oldest chunk that is sent and not answered; None if there is none."""
        return self._chunks[0] if self._chunks else None

    def answer(self, outputs: bytes, last_history: bytes, now: float) -> None:
        """Takes the answer to the chunk `unanswered`.

        Args:
          outputs: of its steps.
          last_history: the history after the last of them.
          now: the time, in seconds.

        Raises:
          HistoryDiffersError: a step that was answered before the store was put back has
            other outputs; nothing is taken.
        """
        chunk = self._chunks[0]
        if chunk.expected_history is None and chunk.first_step == self._next.step:
            # The answer before has told it meanwhile.
            chunk = dataclasses.replace(chunk, expected_history=self._next.history)
        answered = Answered(chunk, outputs, now)
        if answered.first < self._next.step:
            self._check_again(answered)
        self._chunks.popleft()
        self.answered = self._recall.answered = answered.end
        if answered.end > self._next.step:
            self._outputs.append(answered.within(self._next.step, answered.end))
            self._next = Place(answered.end, last_history)
        if not self._chunks:
            self._sent_history = last_history

    def _check_again(self, again: Answered) -> None:
        """Checks the outputs of steps that have had some before the store was put back."""
        self._recall.check(again)
        for index, before in enumerate(self._outputs):
            if before.first < again.end and again.first < before.end:
                check_same(self._recall.session, before.within(again.first, again.end), again)
                self._outputs[index] = before._replace(at=again.at)
        self._recall.renew(again)

    def roll_back(self, gap: errors.StepGapError) -> None:
        """Goes back to where the store stands, which was put back.

        Raises:
          StepGapError: it was not, or the steps in between are not kept.
        """
        stands = self._recall.roll_back(gap, self.answered)
        base, frames = self._frames
        if stands < base:
            kept = [
                part.frames_of(step, step + 1)
                for part in self._recall.parts(stands, base)
                for step in range(part.first, part.end)
            ]
            self._frames = (stands, kept + frames)
        self.answered = stands
        self.rewind()

    def rewind(self) -> None:
        """Marks all that is not answered as not sent: the connection is another one."""
        self._chunks.clear()
        self.sent = self.answered
        self._sent_history = self._history_before(self.answered)

    @property
    def place(self) -> Place:
        """Where the caller is."""
        first = self.first
        return Place(first, self._history_before(first))

    def outputs(self) -> bytes | None:
        """Returns the outputs of the step `first` and of those that were answered with it.

        None if they are not there yet. Half a window of them at most: what the caller has
        makes room, and a caller that takes its time is to find the next ones there.
        """
        first, half = self.first, max(1, self._window // 2)
        for answered in self._outputs:
            if first < answered.end:
                return answered.outputs_of(first, min(answered.end, first + half))
        return None

    def drop(self) -> None:
        """Takes the frame of the step `first`, which has no answer, out of the run.

        Those behind it move up by one step; all of them are sent (again).
        """
        self.forget()
        self.rewind()
        base, frames = self._frames
        self._frames = (base, frames[1:])

    def forget(self) -> None:
        """Frees the frames and outputs of the steps before `first`, which can be recalled."""
        # Ctrl-C may strike after each line: see `first`.
        while self._outputs and self._outputs[0].end <= self.first:
            self._recall.add(self._outputs[0])
            self._outputs.popleft()
        free = min(self._outputs[0].first if self._outputs else self._next.step, self.answered)
        base, frames = self._frames
        if base < free:
            self._frames = (free, frames[free - base :])

    def leave(self) -> list[bytes]:
        """Returns the frames of the steps from `first` on; those before can be recalled."""
        for answered in self._outputs:
            if answered.first < self.first:
                self._recall.add(answered.within(answered.first, self.first))
        return self.frames()

    def frames(self) -> list[bytes]:
        """Returns the frames of the steps from `first` on."""
        base, frames = self._frames
        return frames[self.first - base :]

    def _history_before(self, step: int) -> bytes | None:
        """Returns the history before a step that is answered, or the first that is not."""
        if step == self._next.step:
            return self._next.history
        for answered in itertools.chain(self._outputs, self._recall.parts(step, step + 1)):
            if answered.first <= step < answered.end:
                return answered.history_before(step)
        return None
