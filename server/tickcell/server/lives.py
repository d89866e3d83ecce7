"""The session contract on lives: which sessions are alive, how they are renewed and end.

Pure: a record, a request and the time in; the next record out, or an error raised, in
which case nothing changes. If nothing is to change, the same record is returned. Lives
end by the store's clock: functions that only compare times take `now_ns`, and those that
write a record take a `Moment`. No gRPC, no store, no clock, no randomness, no cell.
`beginnings` has how lives begin, `handovers` how they continue elsewhere, and `rules`
what a step may do within one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tickcell.server import errors
from tickcell.server.record import Generation, Life, Record
from tickcell.server.store.contract import Pin

if TYPE_CHECKING:
    from tickcell.server.clock import Moment

# What a step message may have beside its vector: the longest id, the indices, a history,
# and room for fields to come.
_BESIDE_VECTOR_BYTES = 256
# The number of earlier generations that a record remembers.
_PAST = 8


def max_step_count(
    *,
    window: int,
    series_count: int,
    sensor_count: int,
    output_count: int,
    max_request_rows: int,
    max_message_bytes: int,
) -> int:
    """Returns the most steps that one request of a session may have.

    Frames and outputs of so many steps fit the window, the rows of a request and a message.
    It is 0 where not even one step does.
    """
    vector_bytes = max_message_bytes - _BESIDE_VECTOR_BYTES
    step_bytes = 4 * series_count * max(sensor_count, output_count)
    return max(0, min(window, max_request_rows // series_count, vector_bytes // step_bytes))


def live(record: Record | None, session: str, now_ns: int, retention_ns: int) -> Record:
    """Returns the record if its session is alive.

    Raises:
      SessionUnknown: there is no record, or its end is longer ago than the retention.
      SessionDeleted: the session was deleted.
      SessionMoved: it was exported and ended.
      SessionExpired: it was idle for too long.
    """
    if record is not None and not has_ended(record, now_ns):
        return record
    raise _ended(record, session, now_ns, retention_ns)


def is_live(record: Record | None) -> bool:
    """Says whether a record counts as a live session: one that nobody has ended yet.

    An expired one does until its end is noticed, and it becomes a tombstone.
    """
    return record is not None and not record.life.is_over


def new_pin(old: Record | None, new: Record | None) -> Pin | None:
    """Returns the model version to which a session is pinned; None where that is unchanged."""
    if new is None:
        return None
    pin = _pin(new.life)
    return None if old is not None and _pin(old.life) == pin else pin


def _pin(life: Life) -> Pin:
    return Pin(life.model, life.model_version, life.fingerprint)


def has_ended(record: Record, now_ns: int) -> bool:
    """Says whether the session was ended, or was idle for its time to live."""
    life = record.life
    # A tombstone stays one, whatever the clock says.
    return life.is_over or 0 < life.idle_ttl_ns <= now_ns - record.renew_ns


def end_ns(record: Record) -> int | None:
    """Returns when the session ended or will expire, by the store's clock; None if never."""
    life = record.life
    if life.delete_ns is not None:
        return life.delete_ns
    return record.renew_ns + life.idle_ttl_ns if life.idle_ttl_ns else None


def is_forgotten(record: Record, now_ns: int, retention_ns: int) -> bool:
    """Says whether the session ended longer ago than the retention."""
    ended_ns = end_ns(record)
    return ended_ns is not None and now_ns >= ended_ns + retention_ns


def past(life: Life, end: str) -> tuple[Generation, ...]:
    """Returns the generations that are over once a life's own has ended so."""
    return (*life.past, Generation(life.generation, end))[-_PAST:]


def touch(record: Record, session: str, generation: int, now: Moment) -> Record:
    """Returns the record of a live session, renewed.

    Raises:
      SessionRestarted, SessionClaimed: the request means another generation.
    """
    check_generation(record, session, generation)
    return renewed(record, now)


def delete(
    record: Record | None, session: str, generation: int, now: Moment, retention_ns: int
) -> Record:
    """Returns the tombstone of a session, keeping nothing that only steps need.

    Raises:
      SessionUnknown, SessionDeleted, SessionExpired: it is not alive, and this is not
        the repetition of its deletion.
      SessionRestarted, SessionClaimed: the request means another generation.
    """
    if (
        record is not None
        and record.life.is_deleted
        and not record.life.move_request_id
        and record.life.generation == generation
        and not is_forgotten(record, now.store_ns, retention_ns)
    ):
        return record
    record = live(record, session, now.store_ns, retention_ns)
    check_generation(record, session, generation)
    return _buried(record, deleted(record.life, now))


def end(
    record: Record | None, session: str, generation: int, now: Moment, retention_ns: int
) -> Record:
    """Returns the tombstone of a session with its window, so that its last steps stay answered.

    Raises:
      SessionUnknown, SessionDeleted, SessionExpired: it is not alive, and this is not
        the repetition of its end.
      SessionRestarted, SessionClaimed: the request means another generation.
    """
    if record is not None and record.life.is_deleted:
        return delete(record, session, generation, now, retention_ns)
    record = live(record, session, now.store_ns, retention_ns)
    check_generation(record, session, generation)
    life = dataclasses.replace(deleted(record.life, now), state_size=0)
    return record._replace(life=life, state=b"", origin=b"")


def remembered(record: Record | None, session: str, now_ns: int, retention_ns: int) -> Record:
    """Returns the record of a session that is alive, or whose end is remembered.

    Raises:
      SessionUnknown: there is no record, or its end is longer ago than the retention.
    """
    if record is None or is_forgotten(record, now_ns, retention_ns):
        raise _ended(record, session, now_ns, retention_ns)
    return record


def expire(record: Record) -> Record:
    """Returns the tombstone of a session that was idle for too long."""
    return _buried(record, record.life)


def _buried(record: Record, life: Life) -> Record:
    """Returns a record without what only steps need."""
    return record._replace(
        life=dataclasses.replace(life, state_size=0),
        kept=0,
        state=b"",
        histories=record.history_before(record.next_step),
        outputs=b"",
        origin=b"",
    )


def deleted(life: Life, now: Moment) -> Life:
    """Returns the life of a session that ends now."""
    return dataclasses.replace(life, delete_ns=now.store_ns, delete_wall_ns=now.wall_ns)


def renewed(record: Record, now: Moment) -> Record:
    """Returns the record of a session that is renewed now."""
    # Another server of the store may be a little ahead.
    return record._replace(renew_ns=max(now.store_ns, record.renew_ns), renew_wall_ns=now.wall_ns)


def _ended(
    record: Record | None, session: str, now_ns: int, retention_ns: int
) -> errors.TickcellError:
    if record is None or is_forgotten(record, now_ns, retention_ns):
        return errors.SessionUnknown(
            f"{session}: no such session; create it first.", session=session
        )
    if record.life.move_request_id:
        return errors.SessionMoved(
            f"{session}: was exported and ended after {record.next_step} steps; continue where "
            "it was imported.",
            session=session,
            generation=record.life.generation,
            next_step=record.next_step,
            move_time_ns=record.life.delete_wall_ns,
        )
    if record.life.is_deleted:
        return errors.SessionDeleted(
            f"{session}: was deleted after {record.next_step} steps; create it again.",
            session=session,
            generation=record.life.generation,
            next_step=record.next_step,
            delete_time_ns=record.life.delete_wall_ns,
        )
    return errors.SessionExpired(
        f"{session}: expired after {record.next_step} steps, idle for more than "
        f"{record.life.idle_ttl_ns / 1e9:g} s; create it again, with a longer time to live.",
        session=session,
        generation=record.life.generation,
        next_step=record.next_step,
        expire_time_ns=record.expire_wall_ns,
        idle_ttl_s=record.life.idle_ttl_ns / 1e9,
    )


def check_generation(record: Record, session: str, generation: int) -> None:
    """Raises SessionRestarted or SessionClaimed unless the generation is the record's."""
    if generation != record.life.generation:
        raise superseded(record, session, generation)


def check_unclaimed(record: Record, session: str) -> None:
    """Raises SessionClaimed for a request without a generation, if another caller has claimed it.

    A caller that names no generation might be the one that lost the session.
    """
    if record.life.is_claimed:
        raise errors.SessionClaimed(
            f"{session}: was claimed, and is at step {record.next_step} of generation "
            f"{record.life.generation}, which the request does not name; claim it again to "
            "continue.",
            session=session,
            generation=record.life.generation,
            next_step=record.next_step,
        )


def superseded(
    record: Record, session: str, generation: int
) -> errors.SessionRestarted | errors.SessionClaimed:
    """Returns the answer to a request for a generation other than the current one."""
    numbers = {
        "session": session,
        "got_generation": generation,
        "generation": record.life.generation,
        "next_step": record.next_step,
    }
    now = f"is now {record.life.generation}, at step {record.next_step}"
    ends = {each.id: each.end for each in record.life.past}
    end = ends.get(generation)
    if end is None and len(ends) == _PAST:
        # It is so old that it is forgotten, so it ended before the oldest that is remembered;
        # what ended that one has come between this caller and the session as well.
        end = record.life.past[0].end
    if end == "claimed":
        return errors.SessionClaimed(
            f"{session}: got generation {generation}, but another caller has claimed the session, "
            f"which {now}; claim it again to continue.",
            **numbers,
        )
    return errors.SessionRestarted(
        f"{session}: got generation {generation}, but the session was "
        f"{'migrated' if end == 'migrated' else 'restarted'} and {now}; attach to it again.",
        **numbers,
    )
