"""The session contract on steps: which steps of a request are new, and which are stored.

Pure: a record and a request in; a decision out, or an error raised, in which case
nothing changes. No gRPC, no store, no clock, no cell. `lives` has the rules on how
lives begin and end.

A life of a session is one generation. Within it, steps are applied in order,
each once: a step is *new* (its index is the one expected next), *stored* (it
was applied, and the window still has its outputs and the digest of its frame),
*stale* (applied, and no longer in the window) or behind a *gap*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.server import episodes, errors, lives
from tickcell.server.record import Life, Record, is_finite
from tickcell.wire import history

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tickcell.server.catalogue import ServedModel
    from tickcell.server.store.contract import Key


class StepRequest(NamedTuple):
    """A request for T steps of one session.

    Attributes:
      key: the owner and the id of the session.
      generation: the life that is meant; None for the current one.
      first_step: the index of the first frame; None for whatever comes next.
      step_count: T.
      frames: `[T, B, F]` float32, little-endian.
      expected_history: the history before the first step; None for whichever it is.
      resets: the series that begin anew before a frame, each as t x B + b; see `episodes`.
    """

    key: Key
    generation: int | None
    first_step: int | None
    step_count: int
    frames: bytes
    expected_history: bytes | None = None
    resets: tuple[int, ...] = ()

    @property
    def session(self) -> str:
        """The session's id."""
        return self.key.session

    @property
    def size(self) -> int:
        """The bytes that it brings."""
        return len(self.frames)


def decide(
    record: Record, request: StepRequest, name_sensor: Callable[[Life, int], str]
) -> tuple[int, int, bytes]:
    """Tells the new steps of a request from the stored ones.

    Args:
      record: of a live session.
      request: what is asked.
      name_sensor: names a life's sensor by its index; a record knows no names.

    Returns:
      The index of the request's first step, how many of its steps are stored, and the
      history after each of the rest, which are new.

    Raises:
      SessionRestarted, SessionClaimed: the request means another generation.
      FrameShape: the step count or the number of readings does not fit.
      FrameNotFinite: a reading is NaN or infinite.
      ArgumentInvalid: the first step is negative, or the resets are none of its steps'.
      StepStale: a step has left the window.
      StepGap: steps before the first are missing.
      StepConflict: the steps before are not those that are expected, or a stored step had
        another frame.
    """
    life = record.life
    if request.generation != life.generation:
        _check_meant(record, request)
    steps = request.step_count
    frames = request.frames
    if not (0 < steps <= life.max_step_count and len(frames) == steps * life.frame_size):
        raise _misshapen(life, request)
    if request.resets:
        episodes.check(life, request.session, request.resets, steps * life.series_count)
    if not is_finite(frames):
        raise _not_finite(record, request, name_sensor)
    expected = record.next_step
    first = request.first_step
    if first == expected or first is None:
        return expected, 0, _histories(record, request, expected)
    if first < 0:
        raise _negative(request.session, first)
    if first > expected:
        raise _gap(request.session, first, expected)
    oldest = expected - record.kept
    if first < oldest:
        raise _stale(request.session, first, oldest, expected)
    histories = _histories(record, request, first)
    stored = min(steps, expected - first)
    _check_frames(record, request, first, histories[: stored * history.SIZE])
    return first, stored, histories[stored * history.SIZE :]


def _check_meant(record: Record, request: StepRequest) -> None:
    """Raises SessionRestarted or SessionClaimed unless the request means whatever life there is."""
    if request.generation is None:
        lives.check_unclaimed(record, request.session)
    else:
        lives.check_generation(record, request.session, request.generation)


def window_steps(
    record: Record, session: str, first_step: int | None, step_count: int
) -> tuple[int, int]:
    """Returns which steps of the window are asked for: the first, and how many.

    Args:
      record: of a live session.
      session: its id.
      first_step: the first that is asked for; None for the oldest in the window.
      step_count: how many; 0 for all from the first on, as far as one answer may have them.

    Raises:
      ArgumentInvalid: one of the two is negative, or more are asked for than one answer may have.
      StepStale: the first has left the window.
      StepGap: one of them was not applied yet.
    """
    life, end = record.life, record.next_step
    if not 0 <= step_count <= life.max_step_count:
        raise errors.ArgumentInvalid(
            f"{session}: step_count: got {step_count}, expected 0 to {life.max_step_count}.",
            session=session,
            field="step_count",
            got=step_count,
            min=0,
            max=life.max_step_count,
        )
    oldest = end - record.kept
    first = oldest if first_step is None else first_step
    if first < 0:
        raise _negative(session, first)
    if first + step_count > end:
        raise errors.StepGap(
            f"{session}: not all of the requested steps from first_step {first} on are "
            f"applied; the next one is {end}.",
            session=session,
            first_step=first,
            next_step=end,
        )
    if first < oldest:
        raise _stale(session, first, oldest, end)
    return first, step_count or min(end - first, life.max_step_count)


def stored_outputs(record: Record, first_step: int, count: int) -> bytes:
    """Returns the outputs of stored steps, `[count, B, O]` float32."""
    size = record.life.output_size
    start = (first_step - record.next_step + record.kept) * size
    return record.outputs[start : start + count * size]


def _histories(record: Record, request: StepRequest, first: int) -> bytes:
    """Returns the history after each of the request's steps, the first of which is `first`.

    Raises:
      StepConflict: the history before them is not the one that is expected.
    """
    before = record.history_before(first)
    expected = request.expected_history
    if expected is not None and expected != before:
        raise errors.StepConflict(
            f"{request.session}: expected_history: got '{expected.hex()}', but the history before "
            f"step {first} is '{before.hex()}': another writer, another recording, or a store "
            "that was put back; nothing was applied.",
            session=request.session,
            step=first,
            expected_history=expected.hex(),
            history=before.hex(),
            next_step=record.next_step,
        )
    if request.resets:
        series_count = record.life.series_count
        return history.chain(
            before, request.frames, request.step_count, request.resets, series_count
        )
    return history.chain(before, request.frames, request.step_count)


def _negative(session: str, first_step: int) -> errors.ArgumentInvalid:
    return errors.ArgumentInvalid(
        f"{session}: first_step: got {first_step}, expected 0 or more.",
        field="first_step",
        got=first_step,
    )


def _gap(session: str, first_step: int, next_step: int) -> errors.StepGap:
    return errors.StepGap(
        f"{session}: got first_step {first_step}, expected {next_step}; resume at {next_step}.",
        session=session,
        first_step=first_step,
        next_step=next_step,
    )


def _stale(session: str, first_step: int, oldest: int, next_step: int) -> errors.StepStale:
    return errors.StepStale(
        f"{session}: got first_step {first_step}, but the window begins at {oldest}; "
        f"resume at {next_step}.",
        session=session,
        first_step=first_step,
        window_start_step=oldest,
        next_step=next_step,
    )


def _misshapen(life: Life, request: StepRequest) -> errors.FrameShape:
    steps = request.step_count
    if not 1 <= steps <= life.max_step_count:
        return errors.FrameShape(
            f"{request.session}: got step_count {steps}, expected 1 to {life.max_step_count}; "
            "send the rest in further requests.",
            session=request.session,
            step_count=steps,
            max_step_count=life.max_step_count,
        )
    expected = steps * life.frame_size // 4
    return errors.FrameShape(
        f"{request.session}: got {len(request.frames) // 4} readings, expected {expected}: "
        f"{steps} steps x {life.series_count} series x {life.sensor_count} sensors.",
        session=request.session,
        reading_count=len(request.frames) // 4,
        expected_reading_count=expected,
        step_count=steps,
        series_count=life.series_count,
        sensor_count=life.sensor_count,
    )


def _not_finite(
    record: Record, request: StepRequest, name_sensor: Callable[[Life, int], str]
) -> errors.FrameNotFinite:
    life = record.life
    readings = np.frombuffer(request.frames, "<f4")
    wrong = locate(readings, ~np.isfinite(readings), life)
    first = record.next_step if request.first_step is None else request.first_step
    step, sensor = first + wrong.frame, name_sensor(life, wrong.sensor)
    return errors.FrameNotFinite(
        f"{request.session}: step {step}, series {wrong.series}, sensor {sensor}: got "
        f"{wrong.reading}, expected a finite number.",
        session=request.session,
        step=step,
        series=wrong.series,
        sensor=sensor,
        reading=wrong.reading,
    )


class Place(NamedTuple):
    """Where in a request a reading is, by index, and what it is."""

    frame: int
    series: int
    sensor: int
    reading: float


def locate(readings: NDArray[np.float32], is_wrong: NDArray[np.bool_], life: Life) -> Place:
    """Returns the place of the first wrong one of some frames' readings."""
    index = int(np.argmax(is_wrong))
    frame, rest = divmod(index, life.series_count * life.sensor_count)
    return Place(frame, *divmod(rest, life.sensor_count), float(readings.flat[index]))


def _check_frames(record: Record, request: StepRequest, first: int, histories: bytes) -> None:
    """Raises unless the stored steps, from `first` on, had these histories after them."""
    start = (first - record.next_step + record.kept + 1) * history.SIZE
    stored = record.histories[start : start + len(histories)]
    if stored == histories:
        return
    step = first + next(
        place // history.SIZE
        for place in range(0, len(histories), history.SIZE)
        if stored[place : place + history.SIZE] != histories[place : place + history.SIZE]
    )
    raise errors.StepConflict(
        f"{request.session}: step {step} was applied with another frame: another writer, or "
        "another recording; nothing was applied.",
        session=request.session,
        step=step,
        next_step=record.next_step,
    )


def numerics_changed(record: Record, numerics: bytes, session: str) -> errors.NumericsChanged:
    """Returns the refusal to continue a session under a numerics digest other than its own."""
    return errors.NumericsChanged(
        f"{session}: was advanced to step {record.next_step} under the numerics "
        f"{record.numerics.hex()}, and this machine computes {numerics.hex()}; continue it where "
        "it began, or serve with --numerics=serve.",
        session=session,
        got=numerics.hex(),
        expected=record.numerics.hex(),
        next_step=record.next_step,
    )


def check_ranges(record: Record, request: StepRequest, stored: int, model: ServedModel) -> None:
    """Raises FrameOutOfRange unless the sensors can give all readings of the new frames."""
    frames = request.frames
    if stored:
        frames = frames[stored * record.life.frame_size :]
    is_outside = model.out_of_range(frames)
    if is_outside is None:
        return
    wrong = locate(np.frombuffer(frames, "<f4"), is_outside, record.life)
    sensor = model.cell.interface.sensors[wrong.sensor]
    # The new frames begin with the step that is expected.
    step = record.next_step + wrong.frame
    raise errors.FrameOutOfRange(
        f"{request.session}: step {step}, series {wrong.series}, {sensor.name}: got "
        f"{wrong.reading:g} {sensor.unit}".rstrip()
        + f", expected {sensor.expected}.",
        session=request.session,
        step=step,
        series=wrong.series,
        sensor=sensor.name,
        unit=sensor.unit,
        reading=wrong.reading,
        min_reading=sensor.min_reading,
        max_reading=sensor.max_reading,
        whole=str(sensor.whole).lower(),
    )


def output_not_finite(record: Record, session: str) -> errors.OutputNotFinite:
    """Returns the answer to a request for which the cell gives no finite numbers."""
    return errors.OutputNotFinite(
        f"{session}: the cell gives an output or a state that is not finite for the frames from "
        f"step {record.next_step} on; nothing was applied.",
        session=session,
        next_step=record.next_step,
    )
