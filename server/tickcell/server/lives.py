"""The session contract on lives: how they begin, are renewed and end.

Pure: a record, what is asked and the time in; the next record out, or an error
raised, in which case nothing changes. The record that is returned is the one that
was given where nothing is to change. No gRPC, no store, no clock, no randomness, no
cell. What a step may do within a life is in `rules`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors
from tickcell.server.record import Life, Record

if TYPE_CHECKING:
    from collections.abc import Callable


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
    check_generation(record, session, generation)
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
    check_generation(record, session, generation)
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
    check_generation(record, session, generation)
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


def check_generation(record: Record, session: str, generation: int) -> None:
    """Raises SessionRestarted unless the generation is the record's."""
    if generation != record.life.generation:
        raise restarted(record, session, generation)


def restarted(record: Record, session: str, generation: int) -> errors.SessionRestarted:
    """Returns the answer to a request that means another generation."""
    return errors.SessionRestarted(
        f"{session}: got generation {generation}, but the session was restarted and is now "
        f"{record.life.generation}, at step {record.next_step}; attach to it anew.",
        session=session,
        got_generation=generation,
        generation=record.life.generation,
        next_step=record.next_step,
    )
