"""The steps of one session between the caller's frame and the caller's output.

One run of consecutive steps, cut by four indices that only grow, `sent` alone
excepted:

    first      the first step whose output the caller is not done with
    answered   the first step whose reply has not come
    sent       the first step that has not been sent on this connection
    end        the step of the next frame that is pushed

    first <= answered <= sent <= end, and sent - first <= window

The last bound is the client's half of the promise: however a connection ends,
the server has applied at most `window` steps of which the caller does not have
the output, so it still has the outputs of all of them.

Pure: no gRPC, no threads, no clock.
"""

from __future__ import annotations

import itertools
from collections import deque

from tickcell.client.life import Chunk


class Flight:
    """The frames and outputs of the steps that the caller is not done with."""

    def __init__(self, first_step: int, window: int, output_size: int) -> None:
        """Begins with nothing in flight.

        Args:
          first_step: the step of the first frame.
          window: the most steps that may be sent and not yet done with.
          output_size: the bytes of one step's outputs.
        """
        self.first = self.answered = self.sent = self.end = first_step
        self._window = window
        self._output_size = output_size
        # Frames of the steps from `first` to `end`, outputs from `first` to `answered`.
        self._frames: deque[bytes] = deque()
        self._outputs: deque[bytes] = deque()
        # What was sent and not answered, in order.
        self._chunks: deque[Chunk] = deque()

    @property
    def in_flight(self) -> int:
        """The number of steps sent and not answered."""
        return self.sent - self.answered

    @property
    def waiting(self) -> int:
        """The number of steps that the caller is not done with."""
        return self.end - self.first

    @property
    def can_send(self) -> bool:
        """Whether there is a step to send, and room for it in the window."""
        return self.sent < self.end and self.sent - self.first < self._window

    def push(self, frame: bytes) -> int:
        """Takes the frame of the next step, and returns the step's index."""
        self._frames.append(frame)
        self.end += 1
        return self.end - 1

    def send(self, max_steps: int) -> Chunk:
        """Marks the next steps as sent and returns them; `can_send` must hold."""
        start = self.sent - self.first
        count = min(max_steps, self.end - self.sent, self._window - start)
        frames = b"".join(itertools.islice(self._frames, start, start + count))
        chunk = Chunk(self.sent, count, frames)
        self._chunks.append(chunk)
        self.sent += count
        return chunk

    @property
    def unanswered(self) -> Chunk | None:
        """The oldest chunk that is sent and not answered; None if there is none."""
        return self._chunks[0] if self._chunks else None

    def answer(self, outputs: bytes) -> None:
        """Takes the outputs of the chunk `unanswered`."""
        size = self._output_size
        self._outputs.extend(outputs[at : at + size] for at in range(0, len(outputs), size))
        self.answered += self._chunks.popleft().step_count

    def rewind(self) -> None:
        """Marks all that is not answered as not sent: the connection is another one."""
        self._chunks.clear()
        self.sent = self.answered

    def output(self) -> bytes | None:
        """Returns the output of the step `first`; None if it is not there yet."""
        return self._outputs[0] if self._outputs else None

    def release(self) -> None:
        """Forgets the step `first`, whose output the caller now has."""
        self._outputs.popleft()
        self._frames.popleft()
        self.first += 1

    def frames(self) -> bytes:
        """Returns the frames of all steps that the caller is not done with."""
        return b"".join(self._frames)
