"""The session contract: what a request may do to a record, and what it is answered.

Pure: a record, a request and the time in; a decision or the next record out, or
an error raised, in which case nothing changes. No gRPC, no store, no clock, no
randomness, no cell.

A life of a session is one generation. Within it, steps are applied in order,
each once: a step is *new* (its index is the one expected next), *stored* (it
was applied, and the window still has its outputs and the digest of its frame),
*stale* (applied, and no longer in the window) or behind a *gap*.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.server import errors
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


class CreateRequest(NamedTuple):
    """A request for a new session: everything that a record is made of."""

    session: str
    request_id: str
    generation: int
    model: str
    model_version: str
    fingerprint: str
    numerics: bytes
    series_count: int
    window: int
    sensor_count: int
    output_count: int
    state: bytes
    idle_ttl_ns: int
    labels: dict[str, str]


def live(record: Record | None, session: str, now_ns: int, retention_ns: int) -> Record:
    """Returns the record if its session is alive.

    Raises:
      SessionUnknown: there is no record, or its end is longer ago than the retention.
      SessionDeleted: the session was deleted.
      SessionExpired: it was idle for too long.
    """
    if record is not None and not record.life.delete_ns and not is_expired(record, now_ns):
        return record
    raise _ended(record, session, now_ns, retention_ns)


def is_expired(record: Record, now_ns: int) -> bool:
    """Says whether the session was idle for its time to live."""
    ttl_ns = record.life.idle_ttl_ns
    return ttl_ns != 0 and now_ns >= record.renew_ns + ttl_ns


def is_forgotten(record: Record, now_ns: int, retention_ns: int) -> bool:
    """Says whether the session ended longer ago than the retention."""
    if record.life.is_deleted:
        return now_ns >= record.life.delete_ns + retention_ns
    return is_expired(record, now_ns - retention_ns)


def decide(record: Record, request: StepRequest, max_rows: int) -> tuple[int, int, bytes]:
    """Tells the new steps of a request from the stored ones.

    Args:
      record: of a live session.
      request: what is asked.
      max_rows: the most steps times series in one request.

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
        raise _restarted(record, request.session, request.generation)
    steps = request.step_count
    frames = request.frames
    if not (
        0 < steps <= life.window
        and steps * life.series_count <= max_rows
        and len(frames) == steps * life.frame_size
    ):
        raise _misshapen(life, request, max_rows)
    if not is_finite(frames):
        raise _not_finite(life, request)
    expected = record.next_step
    first = request.first_step
    if first == expected or first is None:
        return expected, 0, digest(frames) if steps == 1 else _digests(request)
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
    digests = _digests(request)
    stored = min(request.step_count, expected - first)
    _check_digests(record, request, first, digests[: stored * DIGEST_SIZE])
    return first, stored, digests[stored * DIGEST_SIZE :]


def stored_outputs(record: Record, first_step: int, count: int) -> bytes:
    """Returns the outputs of stored steps, `[count, B, O]` float32."""
    size = record.life.output_size
    start = (first_step - record.next_step + record.kept) * size
    return record.outputs[start : start + count * size]


def create(record: Record | None, request: CreateRequest, now_ns: int, retention_ns: int) -> Record:
    """Returns the record of a new session, or the one that the same request created.

    Raises:
      SessionExists: a live session of this id was created by another request.
      SessionDeleted, SessionExpired: this request created a session that has ended.
    """
    if record is not None and not is_forgotten(record, now_ns, retention_ns):
        if record.life.request_id == request.request_id:
            return live(record, request.session, now_ns, retention_ns)
        if not (record.life.is_deleted or is_expired(record, now_ns)):
            raise errors.SessionExists(
                f"{request.session}: exists already, at step {record.next_step}; attach to it, "
                "or choose another id.",
                session=request.session,
                generation=record.life.generation,
                next_step=record.next_step,
            )
    life = Life(
        generation=request.generation,
        create_ns=now_ns,
        delete_ns=0,
        idle_ttl_ns=request.idle_ttl_ns,
        series_count=request.series_count,
        window=request.window,
        sensor_count=request.sensor_count,
        state_size=len(request.state) // (4 * request.series_count),
        output_count=request.output_count,
        model=request.model,
        model_version=request.model_version,
        fingerprint=request.fingerprint,
        request_id=request.request_id,
        reset_request_id="",
        labels=request.labels,
    )
    return _beginning(life, request.state, request.numerics, now_ns)


def touch(record: Record, session: str, generation: int, now_ns: int) -> Record:
    """Returns the record of a live session, renewed.

    Raises:
      SessionRestarted: the request means another generation.
    """
    _check_generation(record, session, generation)
    return record._replace(renew_ns=max(now_ns, record.renew_ns))


def reset(
    record: Record,
    session: str,
    generation: int,
    request_id: str,
    begin: Callable[[Record], tuple[int, bytes, bytes]],
    now_ns: int,
) -> Record:
    """Returns the record of a live session at the start of a new life.

    Args:
      record: of a live session.
      session: its id.
      generation: the life that is to end.
      request_id: identifies the request; its repetition returns the life it began.
      begin: gives a new life's generation, initial state and numerics digest.
      now_ns: the time, to which the session is renewed.

    Raises:
      SessionRestarted: the request means another generation.
    """
    if record.life.reset_request_id == request_id:
        return record
    _check_generation(record, session, generation)
    new_generation, state, numerics = begin(record)
    life = dataclasses.replace(record.life, generation=new_generation, reset_request_id=request_id)
    return _beginning(life, state, numerics, max(now_ns, record.renew_ns))


def delete(
    record: Record | None, session: str, generation: int, now_ns: int, retention_ns: int
) -> Record:
    """Returns the tombstone of a session, keeping nothing that only steps need.

    Raises:
      SessionUnknown, SessionDeleted, SessionExpired: it is not alive, and this is not
        the repetition of its deletion.
      SessionRestarted: the request means another generation.
    """
    if (
        record is not None
        and record.life.is_deleted
        and record.life.generation == generation
        and not is_forgotten(record, now_ns, retention_ns)
    ):
        return record
    record = live(record, session, now_ns, retention_ns)
    _check_generation(record, session, generation)
    return record._replace(
        life=dataclasses.replace(record.life, delete_ns=now_ns, state_size=0),
        kept=0,
        state=b"",
        digests=b"",
        outputs=b"",
    )


def _beginning(life: Life, state: bytes, numerics: bytes, now_ns: int) -> Record:
    """Returns the record of a life before its first step."""
    return Record(
        life=life,
        kept=0,
        next_step=0,
        renew_ns=now_ns,
        numerics_start_step=0,
        numerics=numerics,
        state=state,
        digests=b"",
        outputs=b"",
    )


def _ended(
    record: Record | None, session: str, now_ns: int, retention_ns: int
) -> errors.TickcellError:
    if record is None or is_forgotten(record, now_ns, retention_ns):
        return errors.SessionUnknown(
            f"{session}: no such session; create it first.", session=session
        )
    if record.life.is_deleted:
        return errors.SessionDeleted(
            f"{session}: was deleted after {record.next_step} steps; create it anew.",
            session=session,
            generation=record.life.generation,
            next_step=record.next_step,
            delete_time_ns=record.life.delete_ns,
        )
    return errors.SessionExpired(
        f"{session}: expired after {record.next_step} steps, idle for more than "
        f"{record.life.idle_ttl_ns / 1e9:g} s; create it anew, with a longer time to live.",
        session=session,
        generation=record.life.generation,
        next_step=record.next_step,
        expire_time_ns=record.expire_ns,
        idle_ttl_s=record.life.idle_ttl_ns / 1e9,
    )


def _check_generation(record: Record, session: str, generation: int) -> None:
    if generation != record.life.generation:
        raise _restarted(record, session, generation)


def _restarted(record: Record, session: str, generation: int) -> errors.SessionRestarted:
    return errors.SessionRestarted(
        f"{session}: got generation {generation}, but the session was restarted and is now "
        f"{record.life.generation}, at step {record.next_step}; attach to it anew.",
        session=session,
        got_generation=generation,
        generation=record.life.generation,
        next_step=record.next_step,
    )


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


def _not_finite(life: Life, request: StepRequest) -> errors.FrameNotFinite:
    readings = np.frombuffer(request.frames, "<f4")
    wrong = locate(readings, ~np.isfinite(readings), life)
    return errors.FrameNotFinite(
        f"{request.session}: frame {wrong.frame} of the request, series {wrong.series}, sensor "
        f"{wrong.sensor}: got {wrong.reading}, expected a finite number.",
        session=request.session,
        **wrong._asdict(),
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


def _digests(request: StepRequest) -> bytes:
    frames = request.frames
    size = len(frames) // request.step_count
    return b"".join([digest(frames[start : start + size]) for start in range(0, len(frames), size)])


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
