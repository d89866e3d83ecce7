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

import itertools
from collections import deque
from typing import TYPE_CHECKING

from tickcell.client.life import Chunk, Place
from tickcell.client.recall import Kept, Recall, digest_of
from tickcell.wire import history

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        output_size: int,
        frames: Iterable[bytes] = (),
        recall: Recall | None = None,
    ) -> None:
        """Begins with nothing in flight.

        Args:
          place: the step of the first frame, and the history before it.
          window: the most steps that may be sent and not yet had.
          output_size: the bytes of one step's outputs.
          frames: those of the first steps, where some wait already.
          recall: the steps before, and those that the caller will have; None for none before.
        """
        self.first = self.answered = self.sent = place.step
        self._window = window
        self._recall = recall or Recall("", place.step, window)
        self._output_size = output_size
        # The frames of the steps from `_base` on. `_base` follows `first`, and `answered`
        # where that went back.
        self._base = place.step
        self._frames = deque(frames)
        self._outputs: dict[int, bytes] = {}
        # The history before each step from `_base` to `answered`, where it is known, and
        # before `sent`.
        self._histories: dict[int, bytes | None] = {place.step: place.history}
        self._sent_history = place.history
        # What was sent and not answered, in order.
        self._chunks: deque[Chunk] = deque()
        # Of the steps that were answered before the store was put back: the outputs' digests.
        self._given: dict[int, bytes] = {}
        self._answered_at = 0.0

    @property
    def end(self) -> int:
        """The step of the next frame that is pushed."""
        return self._base + len(self._frames)

    @property
    def in_flight(self) -> int:
        """The number of steps sent and not answered."""
        return self.sent - self.answered

    @property
    def waiting(self) -> int:
        """The number of steps whose outputs the caller does not have."""
        return self.end - self.first

    @property
    def can_send(self) -> bool:
        """Whether there is a step to send, and room for it in the window."""
        return self.sent < self.end and self._room > 0

    def push(self, frame: bytes) -> int:
        """Takes the frame of the next step, and returns the step's index."""
        self._frames.append(frame)
        return self.end - 1

    def send(self, max_steps: int) -> Chunk:
        """Marks the next steps as sent and returns them; `can_send` must hold."""
        count = min(max_steps, self.end - self.sent, self._room)
        start = self.sent - self._base
        frames = b"".join(itertools.islice(self._frames, start, start + count))
        chunk = Chunk.of(Place(self.sent, self._sent_history), count, frames)
        self._chunks.append(chunk)
        self._sent_history = chunk.last_history
        self.sent += count
        return chunk

    @property
    def _room(self) -> int:
        """How many more steps may be sent."""
        return self._window - (self.sent - min(self.first, self.answered))

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
        size = self._output_size
        chunk = self._chunks[0]
        each = [outputs[index * size :][:size] for index in range(chunk.step_count)]
        for step, output in enumerate(each, self.answered):
            if step in self._given:
                self._recall.check(step, output, self._given[step])
        self._chunks.popleft()
        for index, output in enumerate(each):
            step = self.answered + index
            if self._given.pop(step, None) is not None:
                self._recall.renew(step, now)
            self._outputs[step] = output
            self._histories[step + 1] = (
                None
                if chunk.histories is None
                else chunk.histories[index * history.SIZE : (index + 1) * history.SIZE]
            )
        self.answered += chunk.step_count
        self._answered_at = now
        self._recall.answered = self.answered
        self._histories[self.answered] = last_history
        if not self._chunks:
            self._sent_history = last_history

    def roll_back(self, gap: errors.StepGapError) -> None:
        """Goes back to where the store stands, which was put back.

        Raises:
          StepGapError: it was not, or the steps in between are not kept.
        """
        stands = self._recall.roll_back(gap, self.answered)
        for step in range(self._base, self.answered):
            self._given.setdefault(step, digest_of(self._outputs[step]))
        if stands < self._base:
            kept = self._recall.kept(stands)[: self._base - stands]
            for each in kept:
                self._given.setdefault(each.step, each.digest)
                self._histories[each.step] = each.history
            self._frames.extendleft(each.frame for each in reversed(kept))
            self._base = stands
        self.answered = stands
        self.rewind()

    def rewind(self) -> None:
        """Marks all that is not answered as not sent: the connection is another one."""
        self._chunks.clear()
        self.sent = self.answered
        self._sent_history = self._histories[self.answered]

    @property
    def place(self) -> Place:
        """Where the caller is."""
        first = self.first
        return Place(first, self._histories[first])

    def output(self) -> bytes | None:
        """Returns the output of the step `first`; None if it is not there yet."""
        return self._outputs.get(self.first)

    def drop(self) -> None:
        """Takes the frame of the step `first`, which has no answer, out of the run.

        Those behind it move up by one step; all of them are sent (again).
        """
        self.forget()
        self.rewind()
        self._frames.popleft()

    def forget(self) -> None:
        """Frees the frames and outputs of the steps before `first`, which can be recalled."""
        while self._base < min(self.first, self.answered):
            step = self._base
            self._remember(step, self._frames[0])
            # In this order, Ctrl-C may strike after each line: see `first`.
            self._outputs.pop(step, None)
            self._histories.pop(step, None)
            self._base += 1
            self._frames.popleft()

    def leave(self) -> list[bytes]:
        """Returns the frames of the steps from `first` on; those before can be recalled."""
        for step, frame in zip(range(self._base, self.first), self._frames, strict=False):
            self._remember(step, frame)
        return self.frames()

    def _remember(self, step: int, frame: bytes) -> None:
        digest = self._given.get(step) or digest_of(self._outputs[step])
        self._recall.add(Kept(step, frame, self._histories.get(step), digest, self._answered_at))

    def frames(self) -> list[bytes]:
        """Returns the frames of the steps from `first` on."""
        return list(itertools.islice(self._frames, self.first - self._base, None))
