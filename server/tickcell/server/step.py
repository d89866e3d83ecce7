"""A step request on its way through a turn: asked, decided, computed, answered.

One object that collects what it needs, since at every tick each further object
is paid for. Rows are as a cell takes and gives them: frame and state of a series
side by side, then output and next state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tickcell.server import errors, record, records, rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.server.catalogue import ServedModel
    from tickcell.server.record import Record
    from tickcell.server.store import Key

_F4 = np.dtype("<f4")


class Step(rules.StepRequest):
    """A request for T steps, and what has become of it.

    Attributes:
      key: of the session's record.
      error: why it was refused; None if it was not. Where it is None at the end of a
        turn, all steps are stored.
      start_step: the index of its first frame, once it is decided what "next" means.
      outputs: the answer, `[T, B, O]` float32.
      guess: the step that it follows, if its record is probably the session's still.
      record: the record that the request found; once it is finished, the one that follows.
      encoded: the bytes of the record that it found; once committed, of the one that follows.
      model: the model to which the session is pinned, once there are new steps.
      stored: how many of the T steps are stored; the rest are new.
      digests: of the new steps.
      state: `[B, S]` float32 after the new steps that were computed.
      new_outputs: `[B, O]` float32 of each new step that was computed.
    """

    __slots__ = (
        "digests",
        "encoded",
        "error",
        "guess",
        "key",
        "model",
        "new_outputs",
        "outputs",
        "record",
        "start_step",
        "state",
        "stored",
    )

    key: Key
    start_step: int
    outputs: bytes
    error: errors.TickcellError | None
    guess: Step | None
    encoded: bytes | None
    record: Record
    model: ServedModel
    stored: int
    digests: bytes
    state: bytes
    new_outputs: list[bytes]

    def __init__(
        self,
        session: str,
        generation: int | None,
        first_step: int | None,
        step_count: int,
        frames: bytes,
    ) -> None:
        super().__init__(session, generation, first_step, step_count, frames)
        self.key = records.key(session)
        self.error = None
        self.guess = None

    def begin(self, model: ServedModel) -> None:
        """Makes ready to compute the new steps.

        Raises:
          FrameOutOfRange: a new frame lies outside the sensors' hard ranges.
        """
        self.model = model
        self.state = self.record.state
        self.new_outputs = []
        frames = self.frames
        if self.stored:
            frames = frames[self.stored * self.record.life.frame_size :]
        is_outside = model.out_of_range(frames)
        if is_outside is not None:
            raise self._out_of_range(np.frombuffer(frames, _F4), is_outside)

    def follow(self, before: Step) -> bool:
        """Makes ready to compute new steps on the guess that nothing happened since.

        It stands for `rules.decide` and `begin`, of which it checks what depends on the
        frames; session, generation, count, sizes, model and numerics are those of the step
        before, and were right there.

        Args:
          before: the step that it follows, which was applied here, and had as many frames.

        Returns:
          Whether the frames are in order. If not, the ordinary way says what is wrong.
        """
        model = before.model
        if not record.is_finite(self.frames) or model.out_of_range(self.frames) is not None:
            return False
        self.encoded = before.encoded
        self.record = before.record
        self.start_step = before.record.next_step
        self.stored = 0
        self.digests = rules.digests_of(self)
        self.model = model
        self.state = before.record.state
        self.new_outputs = []
        return True

    def compute(self) -> None:
        """Computes the new steps."""
        life = self.record.life
        step_rows = self.model.cell.step_rows
        if life.series_count > 1:
            for _ in range(self.step_count - self.stored):
                self.take(step_rows(self.rows()))
            return
        # One series, as one agent's tick is: a row is a frame and a state, end to end.
        frames, size, output_size = self.frames, life.frame_size, life.output_size
        for start in range(self.stored * size, len(frames), size):
            row = step_rows(frames[start : start + size] + self.state)
            self.new_outputs.append(row[:output_size])
            self.state = row[output_size:]

    def rows(self) -> bytes:
        """Returns the rows in of the next new step, `[B, F + S]` float32."""
        life = self.record.life
        start = (self.stored + len(self.new_outputs)) * life.frame_size
        frame = self.frames[start : start + life.frame_size]
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
        """Takes the rows out of the next new step, `[B, O + S]` float32."""
        life = self.record.life
        if life.series_count == 1:
            self.new_outputs.append(rows[: life.output_size])
            self.state = rows[life.output_size :]
            return
        table = np.frombuffer(rows, _F4).reshape(life.series_count, -1)
        self.new_outputs.append(table[:, : life.output_count].tobytes())
        self.state = table[:, life.output_count :].tobytes()

    def finish(self, now_ns: int) -> bytes:
        """Completes the outputs and the record, and returns the record's bytes.

        Raises:
          OutputNotFinite: an output, or the next state, is not finite.
        """
        new_outputs = b"".join(self.new_outputs)
        # A state that is not finite would make every later output so, and is no state
        # from which a session could go on.
        if not record.is_finite(new_outputs + self.state):
            raise errors.OutputNotFinite(
                f"{self.session}: the cell gives an output or a state that is not finite for the "
                f"frames from step {self.record.next_step} on; nothing was applied.",
                session=self.session,
                next_step=self.record.next_step,
            )
        self.outputs = new_outputs
        if self.stored:
            self.outputs = self.stored_outputs() + new_outputs
        self.record = record.advance(
            self.record,
            state=self.state,
            digests=self.digests,
            outputs=new_outputs,
            numerics=self.model.numerics,
            now_ns=now_ns,
        )
        return record.encode(self.record)

    def stored_outputs(self) -> bytes:
        """Returns the outputs of the stored steps."""
        return rules.stored_outputs(self.record, self.start_step, self.stored)

    def _out_of_range(
        self,
        readings: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        is_outside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    ) -> errors.FrameOutOfRange:
        wrong = rules.locate(readings, is_outside, self.record.life)
        sensor = self.model.cell.interface.sensors[wrong.sensor]
        step = self.start_step + self.stored + wrong.frame
        return errors.FrameOutOfRange(
            f"{self.session}: step {step}, series {wrong.series}, sensor {sensor.name}: got "
            f"{wrong.reading:g} {sensor.unit}, expected {sensor.min_reading:g} to "
            f"{sensor.max_reading:g}.",
            session=self.session,
            step=step,
            series=wrong.series,
            sensor=sensor.name,
            unit=sensor.unit,
            reading=wrong.reading,
            min_reading=sensor.min_reading,
            max_reading=sensor.max_reading,
        )


def compute(steps: Sequence[Step]) -> None:
    """Computes all new steps: per model and time step, one call for all sessions."""
    by_model: dict[str, list[Step]] = {}
    for step in steps:
        by_model.setdefault(step.model.fingerprint, []).append(step)
    for group in by_model.values():
        _compute_together(group)


def _compute_together(steps: Sequence[Step]) -> None:
    """Steps sessions of one model in lockstep, each as long as it has frames."""
    cell = steps[0].model.cell
    row_size = 4 * (cell.interface.output_count + cell.interface.state_size)
    for index in range(max(step.step_count - step.stored for step in steps)):
        group = [step for step in steps if index < step.step_count - step.stored]
        stepped = cell.step_rows(b"".join([step.rows() for step in group]))
        start = 0
        for step in group:
            end = start + row_size * step.record.life.series_count
            step.take(stepped[start:end])
            start = end
