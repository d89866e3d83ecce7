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

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.server import errors
from tickcell.server.record import DIGEST_SIZE, Pin, Record, decode_pin, digest, encode_pin

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class StepRequest(NamedTuple):
    """A request for T steps of one session.

    Attributes:
      session: its id.
      generation: the life that is meant; None for the current one.
      first_step: the index of the first frame; None for whatever comes next.
      step_count: T.
      frames: `[T, B, F]` float32, little-endian.
    """

    session: str
    generation: int | None
    first_step: int | None
    step_count: int
    frames: bytes


class Decision(NamedTuple):
    """What becomes of a step request that was not refused.

    Attributes:
      first_step: the index of its first frame.
      stored: how many of its steps are stored; the rest are new.
      digests: of the new steps, in order.
    """

    first_step: int
    stored: int
    digests: bytes


class CreateRequest(NamedTuple):
    """A request for a new session: everything that a record is made of."""

    session: str
    request_id: str
    generation: int
    model: str
    model_version: str
    fingerprint: bytes
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
    if record is None or is_forgotten(record, now_ns, retention_ns):
        raise errors.SessionUnknown(
            f"{session}: no such session; create it first.", session=session
        )
    if record.is_deleted:
        raise errors.SessionDeleted(
            f"{session}: was deleted after {record.next_step} steps; create it anew.",
            session=session,
            generation=record.generation,
            next_step=record.next_step,
            delete_time_ns=record.delete_ns,
        )
    if is_expired(record, now_ns):
        raise errors.SessionExpired(
            f"{session}: expired after {record.next_step} steps, idle for more than "
            f"{record.idle_ttl_ns / 1e9:g} s; create it anew, with a longer time to live.",
            session=session,
            generation=record.generation,
            next_step=record.next_step,
            expire_time_ns=record.expire_ns,
        )
    return record


def is_expired(record: Record, now_ns: int) -> bool:
    """Says whether the session was idle for its time to live."""
    return bool(record.idle_ttl_ns) and now_ns >= record.renew_ns + record.idle_ttl_ns


def is_forgotten(record: Record, now_ns: int, retention_ns: int) -> bool:
    """Says whether the session ended longer ago than the retention."""
    if record.is_deleted:
        return now_ns >= record.delete_ns + retention_ns
    return is_expired(record, now_ns - retention_ns)


def decide(record: Record, request: StepRequest, max_rows: int) -> Decision:
    """Tells the new steps of a request from the stored ones.

    Args:
      record: of a live session.
      request: what is asked.
      max_rows: the most steps times series in one request.

    Raises:
      SessionRestarted: the request means another generation.
      FrameShape: the step count or the number of readings does not fit.
      FrameNotFinite: a reading is NaN or infinite.
      ArgumentInvalid: the first step is negative.
      StepStale: a step has left the window.
      StepGap: steps before the first are missing.
      StepConflict: a stored step had another frame.
    """
    _check_generation(record, request.session, request.generation)
    _check_shape(record, request, max_rows)
    _check_finite(record, request)
    expected = record.next_step
    first = expected if request.first_step is None else request.first_step
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
    size = len(request.frames) // request.step_count
    digests = b"".join(
        [
            digest(request.frames[start : start + size])
            for start in range(0, len(request.frames), size)
        ]
    )
    stored = min(request.step_count, expected - first)
    if stored:
        _check_digests(record, request, first, digests[: stored * DIGEST_SIZE])
    return Decision(first, stored, digests[stored * DIGEST_SIZE :])


def stored_outputs(record: Record, decision: Decision) -> bytes:
    """Returns the outputs of a decision's stored steps, `[stored, B, O]` float32."""
    start = (decision.first_step - record.next_step + record.kept) * record.output_row_size
    return record.outputs[start : start + decision.stored * record.output_row_size]


def create(record: Record | None, request: CreateRequest, now_ns: int, retention_ns: int) -> Record:
    """Returns the record of a new session, or the one that the same request created.

    Raises:
      SessionExists: a live session of this id was created by another request.
      SessionDeleted, SessionExpired: this request created a session that has ended.
    """
    if record is not None and not is_forgotten(record, now_ns, retention_ns):
        if decode_pin(record.pin).request_id == request.request_id:
            return live(record, request.session, now_ns, retention_ns)
        if not (record.is_deleted or is_expired(record, now_ns)):
            raise errors.SessionExists(
                f"{request.session}: exists already, at step {record.next_step}; attach to it, "
                "or choose another id.",
                session=request.session,
                generation=record.generation,
                next_step=record.next_step,
            )
    pin = Pin(request.model, request.model_version, request.request_id, "", request.labels)
    return Record(
        is_deleted=0,
        generation=request.generation,
        next_step=0,
        create_ns=now_ns,
        renew_ns=now_ns,
        delete_ns=0,
        idle_ttl_ns=request.idle_ttl_ns,
        series_count=request.series_count,
        window=request.window,
        sensor_count=request.sensor_count,
        state_size=len(request.state) // (4 * request.series_count),
        output_count=request.output_count,
        kept=0,
        numerics_start_step=0,
        fingerprint=request.fingerprint,
        numerics=request.numerics,
        pin=encode_pin(pin),
        state=request.state,
        digests=b"",
        outputs=b"",
    )


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
    pin = decode_pin(record.pin)
    if pin.reset_request_id == request_id:
        return record
    _check_generation(record, session, generation)
    new_generation, state, numerics = begin(record)
    return record._replace(
        generation=new_generation,
        next_step=0,
        renew_ns=max(now_ns, record.renew_ns),
        kept=0,
        numerics_start_step=0,
        numerics=numerics,
        pin=encode_pin(pin._replace(reset_request_id=request_id)),
        state=state,
        digests=b"",
        outputs=b"",
    )


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
        and record.is_deleted
        and record.generation == generation
        and not is_forgotten(record, now_ns, retention_ns)
    ):
        return record
    record = live(record, session, now_ns, retention_ns)
    _check_generation(record, session, generation)
    return record._replace(
        is_deleted=1,
        delete_ns=now_ns,
        state_size=0,
        kept=0,
        state=b"",
        digests=b"",
        outputs=b"",
    )


def _check_generation(record: Record, session: str, generation: int | None) -> None:
    if generation is not None and generation != record.generation:
        raise errors.SessionRestarted(
            f"{session}: got generation {generation}, but the session was restarted and is now "
            f"{record.generation}, at step {record.next_step}; attach to it anew.",
            session=session,
            got_generation=generation,
            generation=record.generation,
            next_step=record.next_step,
        )


def _check_shape(record: Record, request: StepRequest, max_rows: int) -> None:
    steps, series, sensors = request.step_count, record.series_count, record.sensor_count
    most = min(record.window, max_rows // series)
    if not 1 <= steps <= most:
        raise errors.FrameShape(
            f"{request.session}: got step_count {steps}, expected 1 to {most}; send longer "
            "stretches in several requests.",
            session=request.session,
            step_count=steps,
            max_step_count=most,
        )
    if len(request.frames) != 4 * steps * series * sensors:
        raise errors.FrameShape(
            f"{request.session}: got {len(request.frames) // 4} readings, expected "
            f"{steps * series * sensors}: {steps} steps x {series} series x {sensors} sensors.",
            session=request.session,
            reading_count=len(request.frames) // 4,
            expected_reading_count=steps * series * sensors,
            step_count=steps,
            series_count=series,
            sensor_count=sensors,
        )


def _check_finite(record: Record, request: StepRequest) -> None:
    readings = np.frombuffer(request.frames, "<f4")
    is_finite = np.isfinite(readings)
    if is_finite.all():
        return
    series, sensor, reading, step = locate(readings, ~is_finite, record)
    raise errors.FrameNotFinite(
        f"{request.session}: frame {step} of the request, series {series}, sensor {sensor}: got "
        f"{reading}, expected a finite number.",
        session=request.session,
        frame=step,
        series=series,
        sensor=sensor,
        reading=reading,
    )


def locate(
    readings: NDArray[np.float32], is_wrong: NDArray[np.bool_], record: Record
) -> tuple[int, int, float, int]:
    """Returns series, sensor, reading and frame (in the request) of the first wrong reading."""
    index = int(np.argmax(is_wrong))
    frame, rest = divmod(index, record.series_count * record.sensor_count)
    series, sensor = divmod(rest, record.sensor_count)
    return series, sensor, float(readings[index]), frame


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
