"""A recording through a session, one row per step; the row is written before the frame is let go.

To resume after any crash: the rows show how far the caller came, the session how far
the server came, and the window has the outputs in between. The replay restarts at the
oldest step of the window, so that the server compares the frames with those that it
received, and the outputs are compared with the rows: another recording, or another
file, is detected. If the store was put back, the session is at an earlier step than the
rows' end, and more rows are compared.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING

from tickcell.cli.output_rows import RowsError
from tickcell.client.backoff import BACKLOG_S
from tickcell.client.clock import Clock, paced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from tickcell.cli.output_rows import OutputRows
    from tickcell.cli.source import Sample
    from tickcell.client.resources import SessionInfo
    from tickcell.client.session import Session


def start_step(info: SessionInfo, rows: OutputRows, frame_count: int | None) -> int:
    """Returns the step from which frames must be sent (again).

    Args:
      info: of the session as it stands.
      rows: the rows that are written.
      frame_count: the frames of the recording; None if it is not known.

    Raises:
      RowsError: the rows do not meet the window.
    """
    oldest = max(0, info.next_step - info.window_step_count)
    if frame_count is not None and frame_count < info.next_step:
        raise too_short(info, frame_count)
    if rows.next_step < oldest:
        raise RowsError(
            f"{info.id}: is at step {info.next_step} and keeps the outputs of "
            f"{info.window_step_count} steps, but the rows end at step {rows.next_step}: the "
            "outputs in between are gone; start again."
        )
    return oldest


def too_short(info: SessionInfo, frame_count: int) -> RowsError:
    """Returns the error of a recording that has fewer frames than the session has steps."""
    return RowsError(
        f"{info.id}: is at step {info.next_step}, but the recording has {frame_count} "
        "frames: it is not the recording of this session."
    )


@dataclasses.dataclass
class Playback:
    """One run of a recording through a session.

    Attributes:
      session: at the step of the first sample.
      rows: takes the outputs; those that it has already are compared.
      clock: to wait by; None to go as fast as possible.
      hz: the rate at which frames are sent by the clock, if not at their own times.
      backlog_s: how long the server may be away while the clock runs.
      on_row: is called with each output once it is written or compared.
    """

    session: Session
    rows: OutputRows
    clock: Clock | None = None
    hz: float | None = None
    backlog_s: float = BACKLOG_S
    on_row: Callable[[NDArray[np.float32]], object] = lambda _: None

    def run(self, samples: Iterable[Sample], rate_hz: float) -> None:
        """Replays samples, the first of which belongs to the session's next step.

        Args:
          samples: in order.
          rate_hz: of their own times, for the bound of the backlog.

        Raises:
          TickcellError: the session is kept, at the step of the next row or before it.
        """
        # What was drawn by the stream and has no row yet.
        sent: deque[Sample] = deque()
        backlog = (
            None if self.clock is None else max(1, round(self.backlog_s * (self.hz or rate_hz)))
        )
        step = self.session.next_step
        for output in self.session.stream(self._frames(samples, sent), backlog=backlog):
            sample = sent.popleft()
            if step < self.rows.next_step:
                self._compare(step, output)
            else:
                self.rows.write(sample.t, output, sample.label)
            step += 1
            self.on_row(output)

    def _frames(
        self, samples: Iterable[Sample], sent: deque[Sample]
    ) -> Iterator[NDArray[np.float32]]:
        """Yields the frames, each at its time."""
        if self.clock is not None:
            hz = self.hz
            timed = (
                (sample.t if hz is None else index / hz, sample)
                for index, sample in enumerate(samples)
            )
            samples = (sample for _, sample in paced(timed, self.clock))
        for sample in samples:
            sent.append(sample)
            yield sample.frame

    def _compare(self, step: int, output: NDArray[np.float32]) -> None:
        """Compares an output with the row that has it already."""
        row = self.rows.outputs[step]
        if row.tobytes() != output.tobytes():
            raise RowsError(
                f"step {step}: the row has {row}, session {self.session.id} had {output}: the rows "
                "are another session's."
            )
