"""The session contract on steps: which of a request's are new, and which are answered already.

Pure: a record and a request in; a decision out, or an error raised, in which case
nothing changes. No gRPC, no store, no clock, no cell. How lives begin and end is in
`lives`.

A life of a session is one generation. Within it, steps are applied in order,
each once: a step is *new* (its index is the one expected next), *stored* (it
was applied, and the window still has its outputs and the digest of its frame),
*stale* (applied, and no longer in the window) or behind a *gap*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.server import errors, lives
from tickcell.server.record import DIGEST_SIZE, Life, Record, digest, is_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class StepRequest:
    """A request for T steps of one session.

    Attributes:
      session: its id.
      generation: the life that is meant; None for the current one.
      first_step: the index of the first frame; None for whatever comes next.
      step_count: T.
      frames: `[T, B, F]` float32, little-endian.
    """

    __slots__ = ("first_step", "frames", "generation", "session", "step_count")

    def __init__(
        self,
        session: str,
        generation: int | None,
        first_step: int | None,
        step_count: int,
        frames: bytes,
    ) -> None:
        self.session = session
        self.generation = generation
        self.first_step = first_step
        self.step_count = step_count
        self.frames = frames


def decide(
    record: Record, request: StepRequest, max_rows: int, name_sensor: Callable[[Life, int], str]
) -> tuple[int, int, bytes]:
    """Tells the new steps of a request from the stored ones.

    What is checked here and does not depend on the frames, `Step.follow` takes over from
    the step before.

    Args:
      record: of a live session.
      request: what is asked.
      max_rows: the most steps times series in one request.
      name_sensor: names a life's sensor by its index; a record knows no names.

    Returns:
      The index of the request's first step, how many of its steps are stored, and the
      digests of the rest, which are new.

    Raises:
      SessionRestarted: the request means another generation.
      FrameShape: the step count or the number of readings does not fit.
      FrameNotFinite: a reading is NaN or infinite.
      ArgumentInvalid: the first step is negative.
      StepStale: a step has left the window.
      StepGap: steps before the first are missing.
      StepConflict: a stored step had another frame.
    """
    life = record.life
    if request.generation != life.generation and request.generation is not None:
        raise lives.restarted(record, request.session, request.generation)
    steps = request.step_count
    frames = request.frames
    if not (
        0 < steps <= life.window
        and steps * life.series_count <= max_rows
        and len(frames) == steps * life.frame_size
    ):
        raise _misshapen(life, request, max_rows)
    if not is_finite(frames):
        raise _not_finite(record, request, name_sensor)
    expected = record.next_step
    first = request.first_step
    if first == expected or first is None:
        return expected, 0, digests_of(request)
    if first < 0:
        raise errors.ArgumentInvalid(
            f"{request.session}: first_step: got {first}, expected 0 or more.",
            field="first_step",
            got=first,
        )
    if first > expected:
        raise errors.StepGap(
            f"{request.session}: got first_step {first}, expected {expected}; resume at "
            f"{expected}.",
            session=request.session,
            first_step=first,
            next_step=expected,
        )
    oldest = expected - record.kept
    if first < oldest:
        raise errors.StepStale(
            f"{request.session}: got first_step {first}, but the window begins at {oldest}; "
            f"resume at {expected}.",
            session=request.session,
            first_step=first,
            window_start_step=oldest,
            next_step=expected,
        )
    digests = digests_of(request)
    stored = min(request.step_count, expected - first)
    _check_digests(record, request, first, digests[: stored * DIGEST_SIZE])
    return first, stored, digests[stored * DIGEST_SIZE :]


def stored_outputs(record: Record, first_step: int, count: int) -> bytes:
    """Returns the outputs of stored steps, `[count, B, O]` float32."""
    size = record.life.output_size
    start = (first_step - record.next_step + record.kept) * size
    return record.outputs[start : start + count * size]


def digests_of(request: StepRequest) -> bytes:
    """Returns the digests of a request's frames, one per step, in order."""
    frames = request.frames
    if request.step_count == 1:
        return digest(frames)
    size = len(frames) // request.step_count
    return b"".join([digest(frames[start : start + size]) for start in range(0, len(frames), size)])


def _misshapen(life: Life, request: StepRequest, max_rows: int) -> errors.FrameShape:
    steps = request.step_count
    most = min(life.window, max_rows // life.series_count)
    if not 1 <= steps <= most:
        return errors.FrameShape(
            f"{request.session}: got step_count {steps}, expected 1 to {most}; send longer "
            "stretches in several requests.",
            session=request.session,
            step_count=steps,
            max_step_count=most,
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


def _check_digests(record: Record, request: StepRequest, first: int, digests: bytes) -> None:
    """Raises unless the stored steps, from `first` on, had these frames."""
    start = (first - record.next_step + record.kept) * DIGEST_SIZE
    stored = record.digests[start : start + len(digests)]
    if stored == digests:
        return
    step = first + next(
        index
        for index in range(len(digests) // DIGEST_SIZE)
        if stored[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
        != digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
    )
    raise errors.StepConflict(
        f"{request.session}: step {step} was applied with another frame: another writer, or "
        "another recording; nothing was applied.",
        session=request.session,
        step=step,
        next_step=record.next_step,
    )
