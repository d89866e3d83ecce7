"""New steps of one session, on their way from a decision to a commit.

    rows in     frame and state of each series side by side, as a cell takes them
    rows out    output and next state of each series, as a cell gives them

Several sessions' rows are stacked into one call of their model's cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tickcell.server import errors, record, rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.server.catalogue import ServedModel
    from tickcell.server.record import Record
    from tickcell.server.rules import Decision, StepRequest

_F4 = np.dtype("<f4")


class Advance:
    """The new steps that a request asks for.

    Attributes:
      request: what was asked.
      record: the session before them.
      decision: what of the request is new.
      model: the model to which the session is pinned.
      step_count: the number of new steps.
      state: `[B, S]` float32 after those that were computed.
      outputs: `[B, O]` float32 of each that was computed.
    """

    __slots__ = ("decision", "model", "outputs", "record", "request", "state", "step_count")

    def __init__(
        self, request: StepRequest, record: Record, decision: Decision, model: ServedModel
    ) -> None:
        """Raises FrameOutOfRange if a new frame lies outside the sensors' hard ranges."""
        self.request = request
        self.record = record
        self.decision = decision
        self.model = model
        self.step_count = request.step_count - decision.stored
        self.state = record.state
        self.outputs: list[bytes] = []
        new_frames = request.frames
        if decision.stored:
            new_frames = new_frames[decision.stored * record.life.frame_size :]
        is_outside = model.out_of_range(new_frames)
        if is_outside is not None:
            raise _out_of_range(self, np.frombuffer(new_frames, _F4), is_outside)

    def rows(self) -> bytes:
        """Returns the rows of the next step, `[B, F + S]` float32."""
        life = self.record.life
        start = (self.decision.stored + len(self.outputs)) * life.frame_size
        frame = self.request.frames[start : start + life.frame_size]
        if life.series_count == 1:
            return frame + self.state
        return np.concatenate(
            (
                np.frombuffer(frame, _F4).reshape(life.series_count, -1),
                np.frombuffer(self.state, _F4).reshape(life.series_count, -1),
            ),
            axis=1,
        ).tobytes()

    def take(self, rows: bytes) -> None:
        """Takes what the cell made of the rows, `[B, O + S]` float32."""
        life = self.record.life
        if life.series_count == 1:
            self.outputs.append(rows[: life.output_size])
            self.state = rows[life.output_size :]
            return
        table = np.frombuffer(rows, _F4).reshape(life.series_count, -1)
        self.outputs.append(table[:, : life.output_count].tobytes())
        self.state = table[:, life.output_count :].tobytes()

    def finish(self, now_ns: int) -> tuple[Record, bytes]:
        """Returns the record after the new steps, and their outputs `[T', B, O]`.

        Raises:
          OutputNotFinite: an output, or the state after them, is not finite.
        """
        outputs = b"".join(self.outputs)
        for name, computed in (("output", outputs), ("state", self.state)):
            if not record.is_finite(computed):
                raise errors.OutputNotFinite(
                    f"{self.request.session}: the cell's {name} is not finite for the frames from "
                    f"step {self.record.next_step} on; nothing was applied.",
                    session=self.request.session,
                    next_step=self.record.next_step,
                )
        advanced = record.advance(
            self.record,
            state=self.state,
            digests=self.decision.digests,
            outputs=outputs,
            numerics=self.model.numerics,
            now_ns=now_ns,
        )
        return advanced, outputs


def compute(advances: Sequence[Advance]) -> None:
    """Computes all new steps: per model and step, one call for all sessions."""
    if len(advances) == 1:
        _compute_together(advances)
        return
    by_model: dict[str, list[Advance]] = {}
    for advance in advances:
        by_model.setdefault(advance.model.fingerprint, []).append(advance)
    for group in by_model.values():
        _compute_together(group)


def _compute_together(advances: Sequence[Advance]) -> None:
    """Steps sessions of one model in lockstep, each as long as it has frames."""
    cell = advances[0].model.cell
    width = cell.interface.sensor_count + cell.interface.state_size
    for index in range(max([advance.step_count for advance in advances])):
        group = [advance for advance in advances if index < advance.step_count]
        stacked = np.frombuffer(b"".join([advance.rows() for advance in group]), _F4)
        stepped = cell.step_rows(stacked.reshape(-1, width))
        encoded = stepped.tobytes()
        row_size = 4 * stepped.shape[1]
        start = 0
        for advance in group:
            end = start + row_size * advance.record.life.series_count
            advance.take(encoded[start:end])
            start = end


def _out_of_range(
    advance: Advance,
    readings: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    is_outside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> errors.FrameOutOfRange:
    request = advance.request
    wrong = rules.locate(readings, is_outside, advance.record.life)
    sensor = advance.model.cell.interface.sensors[wrong.sensor]
    frame = wrong.frame + advance.decision.stored
    return errors.FrameOutOfRange(
        f"{request.session}: frame {frame} of the request, series {wrong.series}, {sensor.name}: "
        f"got {wrong.reading:g} {sensor.unit}, expected {sensor.min_reading:g} to "
        f"{sensor.max_reading:g}.",
        session=request.session,
        frame=frame,
        series=wrong.series,
        sensor=sensor.name,
        unit=sensor.unit,
        reading=wrong.reading,
        min_reading=sensor.min_reading,
        max_reading=sensor.max_reading,
    )
