"""The session contract on lives: how they begin, are renewed and end.

Pure: a record, what is asked and the time in; the next record out, or an error
raised, in which case nothing changes. The record that is returned is the one that
was given where nothing is to change. Lives end by the store's clock: where only its
time is needed it is `now_ns`, and where a record is written it is part of a `Moment`.
No gRPC, no store, no clock, no randomness, no cell. What a step may do within a life is
in `rules`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors
from tickcell.server.record import Generation, Life, Record
from tickcell.server.store.contract import Pin
from tickcell.wire import history

if TYPE_CHECKING:
    from collections.abc import Callable

    from tickcell.server.clock import Moment

# What a step message may have beside its vector: the longest id, the indices, a history,
# and room for fields to come.
_BESIDE_VECTOR_BYTES = 256
# So many generations before the current one a record remembers.
_PAST = 8


class Start(NamedTuple):
    """What a session begins with.

    Attributes:
      numerics: the numerics digest under which the state was computed.
      state: `[B, S]` float32.
      step: the step that is expected first.
      histories: before the oldest step in the window, and after each step in it.
      outputs: of the steps in the window, `[B, O]` float32 each.
    """

    numerics: bytes
    state: bytes
    step: int = 0
    histories: bytes = history.START
    outputs: bytes = b""


class Version(NamedTuple):
    """Another version of a session's model, and how the session goes on with it.

    Attributes:
      state: `[B, S]` float32; None to keep the session's own.
      keeps_origin: whether a reset still returns to the session's origin, or to the
        version's own beginning.
    """

    generation: int
    model: str
    model_version: str
    fingerprint: str
    numerics: bytes
    output_count: int
    max_step_count: int
    state: bytes | None
    keeps_origin: bool


class CreateRequest(NamedTuple):
    """A request for a new session: everything that a record is made of.

    Its `origin` is that to which a reset returns; None for the cell's own beginning, which a
    record need not keep.
    """

    session: str
    request_id: str
    generation: int
    model: str
    model_version: str
    fingerprint: str
    start: Start
    series_count: int
    window: int
    max_step_count: int
    sensor_count: int
    output_count: int
    idle_ttl_ns: int
    labels: dict[str, str]
    origin: Start | None = None


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
    """Returns the model version to which a session is pinned; None where that is as it was."""
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


def create(record: Record | None, request: CreateRequest, now: Moment, retention_ns: int) -> Record:
    """Returns the record of a new session, or the one that the same request created.

    Raises:
      SessionExists: a live session of this id was created by another request.
      SessionClaimed: this request created it, and another caller has claimed it.
      SessionDeleted, SessionExpired: this request created a session that has ended.
    """
    found = created_by(record, request.session, request.request_id, now, retention_ns)
    return _created(request, now) if found is None else found


def created_by(
    record: Record | None, session: str, request_id: str, now: Moment, retention_ns: int
) -> Record | None:
    """Returns the record of the session that a request created; None if it may create it now.

    Raises:
      SessionExists, SessionClaimed, SessionDeleted, SessionExpired: see `create`.
    """
    if record is None or is_forgotten(record, now.store_ns, retention_ns):
        return None
    if record.life.request_id == request_id:
        return _begun(record, session, now, retention_ns)
    if has_ended(record, now.store_ns):
        return None
    raise errors.SessionExists(
        f"{session}: exists already, at step {record.next_step}; attach to it, or choose "
        "another id.",
        session=session,
        generation=record.life.generation,
        next_step=record.next_step,
    )


def begin(record: Record | None, request: CreateRequest, now: Moment, retention_ns: int) -> Record:
    """Returns the record of a new life, also where one is alive, or of the one that this began.

    A life that is alive ends thereby. The next one names the call that began it, so that this
    is known again when it comes late, and does not end its successor.

    Raises:
      SessionDeleted, SessionExpired: this request began a life that has ended.
      SessionRestarted: this request began the life before this one.
      SessionClaimed: another caller has claimed the life that it began.
    """
    if record is None or is_forgotten(record, now.store_ns, retention_ns):
        return _created(request, now)
    life = record.life
    if life.request_id == request.request_id:
        return _begun(record, request.session, now, retention_ns)
    if life.follows == request.request_id:
        raise superseded(record, request.session, request.generation)
    past = () if has_ended(record, now.store_ns) else _past(life, "begun")
    return _created(request, now, follows=life.request_id, past=past)


def _begun(record: Record, session: str, now: Moment, retention_ns: int) -> Record:
    """Returns the life that a request has begun, if it is still its caller's."""
    found = live(record, session, now.store_ns, retention_ns)
    check_unclaimed(found, session)
    return found


def _created(
    request: CreateRequest,
    now: Moment,
    follows: str = "",
    past: tuple[Generation, ...] = (),
) -> Record:
    """Returns the record of a new session, or of a new life of one."""
    start, origin = request.start, request.origin
    life = Life(
        generation=request.generation,
        create_wall_ns=now.wall_ns,
        idle_ttl_ns=request.idle_ttl_ns,
        series_count=request.series_count,
        window=request.window,
        max_step_count=request.max_step_count,
        sensor_count=request.sensor_count,
        state_size=len(start.state) // (4 * request.series_count),
        output_count=request.output_count,
        model=request.model,
        model_version=request.model_version,
        fingerprint=request.fingerprint,
        request_id=request.request_id,
        labels=request.labels,
        follows=follows,
        past=past,
        origin_step=0 if origin is None else origin.step,
        origin_history="" if origin is None else origin.histories[-history.SIZE :].hex(),
        origin_numerics="" if origin is None else origin.numerics.hex(),
    )
    return Record(
        life,
        kept=len(start.histories) // history.SIZE - 1,
        next_step=start.step,
        renew_ns=now.store_ns,
        renew_wall_ns=now.wall_ns,
        numerics_start_step=start.step,
        numerics=start.numerics,
        state=start.state,
        histories=start.histories,
        outputs=start.outputs,
        origin=b"" if origin is None else origin.state,
    )


def _past(life: Life, end: str) -> tuple[Generation, ...]:
    """Returns the generations that are over once a life's own has ended so."""
    return (*life.past, Generation(life.generation, end))[-_PAST:]


def touch(record: Record, session: str, generation: int, now: Moment) -> Record:
    """Returns the record of a live session, renewed.

    Raises:
      SessionRestarted, SessionClaimed: the request means another generation.
    """
    check_generation(record, session, generation)
    return _renewed(record, now)


def reset(
    record: Record,
    session: str,
    generation: int,
    request_id: str,
    new_generation: int,
    cells_start: Callable[[Record], Start],
    now: Moment,
) -> Record:
    """Returns the record of a live session at the start of a new life.

    That is the state with which it was created, and the step.

    Args:
      record: of a live session.
      session: its id.
      generation: the life that is to end.
      request_id: identifies the request; its repetition returns the life it began.
      new_generation: the one that begins.
      cells_start: gives the cell's own beginning, for a session that was created with it.
      now: the moment to which the session is renewed.

    Raises:
      SessionRestarted, SessionClaimed: the request means another generation.
    """
    if record.life.reset_request_id == request_id:
        return record
    check_generation(record, session, generation)
    start = origin_of(record) or cells_start(record)
    return _renewed(record, now)._replace(
        life=dataclasses.replace(
            record.life,
            generation=new_generation,
            past=_past(record.life, "reset"),
            reset_request_id=request_id,
            claim_request_id="",
            migrate_request_id="",
            is_claimed=False,
        ),
        kept=0,
        next_step=start.step,
        numerics_start_step=start.step,
        numerics=start.numerics,
        state=start.state,
        histories=start.histories,
        outputs=b"",
    )


def origin_of(record: Record) -> Start | None:
    """Returns what a live session was created with; None where that is its cell's beginning."""
    life = record.life
    if not life.has_origin:
        return None
    return Start(
        numerics=bytes.fromhex(life.origin_numerics),
        state=record.origin,
        step=life.origin_step,
        histories=bytes.fromhex(life.origin_history),
    )


def fork(record: Record, session: str, generation: int, step: int | None) -> Start:
    """Returns what a fork of a live session begins with: its state, and an empty window.

    Args:
      record: of the session.
      session: its id.
      generation: the one that is meant.
      step: where it must stand; None for wherever it does.

    Raises:
      SessionRestarted, SessionClaimed: another generation is meant.
      ArgumentInvalid, StepStale, StepGap: it does not stand at the step.
    """
    check_generation(record, session, generation)
    check_step(record, session, step)
    last = record.history_before(record.next_step)
    return Start(record.numerics, record.state, record.next_step, last)


def check_step(record: Record, session: str, step: int | None) -> None:
    """Raises unless a session stands at a step.

    Raises:
      ArgumentInvalid: the step is negative.
      StepStale: the session is beyond it.
      StepGap: it is not there yet.
    """
    here = record.next_step
    if step is None or step == here:
        return
    if step < 0:
        raise errors.ArgumentInvalid(
            f"{session}: step: got {step}, expected 0 or more.", field="step", got=step
        )
    numbers = {"session": session, "first_step": step, "next_step": here}
    if step > here:
        raise errors.StepGap(
            f"{session}: got step {step}, but the session is at {here}; send it again once it is "
            "there, or name no step.",
            **numbers,
        )
    raise errors.StepStale(
        f"{session}: got step {step}, but the session is at {here} already, and keeps no earlier "
        "state.",
        window_start_step=here - record.kept,
        **numbers,
    )


def claim(
    record: Record,
    session: str,
    generation: int | None,
    request_id: str,
    new_generation: int,
    now: Moment,
) -> Record:
    """Returns the record of a live session that is handed over: all but its generation goes on.

    Args:
      record: of a live session.
      session: its id.
      generation: the one that the claimant saw; None for whichever lives.
      request_id: identifies the request; while the generation lives that it began, its
        repetition returns that.
      new_generation: the one that begins.
      now: the moment to which the session is renewed.

    Raises:
      SessionRestarted, SessionClaimed: the request means another generation.
    """
    if record.life.claim_request_id == request_id:
        return record
    if generation is not None:
        check_generation(record, session, generation)
    return _renewed(record, now)._replace(
        life=dataclasses.replace(
            record.life,
            generation=new_generation,
            past=_past(record.life, "claimed"),
            reset_request_id="",
            claim_request_id=request_id,
            migrate_request_id="",
            is_claimed=True,
        )
    )


def migrate(record: Record, version: Version, request_id: str, now: Moment) -> Record:
    """Returns the record of a live session that goes on with another version of its model.

    Steps and history go on, under a new generation. The window stays where the outputs are
    as wide as before.

    Args:
      record: of a live session.
      version: with which it goes on.
      request_id: identifies the request; while the generation lives that it began, its
        repetition returns that.
      now: the moment to which the session is renewed.
    """
    life = record.life
    state = record.state if version.state is None else version.state
    new = dataclasses.replace(
        life,
        generation=version.generation,
        past=_past(life, "migrated"),
        model=version.model,
        model_version=version.model_version,
        fingerprint=version.fingerprint,
        output_count=version.output_count,
        max_step_count=version.max_step_count,
        state_size=len(state) // (4 * life.series_count),
        reset_request_id="",
        claim_request_id="",
        migrate_request_id=request_id,
    )
    gone_on = _renewed(record, now)._replace(
        life=new,
        state=state,
        numerics=version.numerics,
        numerics_start_step=record.next_step,
    )
    if not version.keeps_origin:
        new = dataclasses.replace(new, origin_step=0, origin_history="", origin_numerics="")
        gone_on = gone_on._replace(life=new, origin=b"")
    if version.output_count != life.output_count:
        last = record.history_before(record.next_step)
        gone_on = gone_on._replace(kept=0, histories=last, outputs=b"")
    return gone_on


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
    return _buried(record, _deleted(record.life, now))


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
    life = dataclasses.replace(_deleted(record.life, now), state_size=0)
    return record._replace(life=life, state=b"", origin=b"")


def move(
    record: Record | None,
    session: str,
    generation: int,
    request_id: str,
    now: Moment,
    retention_ns: int,
) -> Record:
    """Returns the tombstone of a session that was exported, and goes on elsewhere.

    All of it is kept for the retention, so that a repetition of the request exports it again.

    Raises:
      SessionUnknown, SessionDeleted, SessionExpired, SessionMoved: it is not alive, and this
        is not the repetition of its export.
      SessionRestarted, SessionClaimed: the request means another generation.
    """
    if (
        record is not None
        and record.life.move_request_id == request_id
        and record.life.generation == generation
        and not is_forgotten(record, now.store_ns, retention_ns)
    ):
        return record
    record = live(record, session, now.store_ns, retention_ns)
    check_generation(record, session, generation)
    life = dataclasses.replace(_deleted(record.life, now), move_request_id=request_id)
    return record._replace(life=life)


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


def _deleted(life: Life, now: Moment) -> Life:
    return dataclasses.replace(life, delete_ns=now.store_ns, delete_wall_ns=now.wall_ns)


def _renewed(record: Record, now: Moment) -> Record:
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
            f"{session}: was exported and ended after {record.next_step} steps; go on where that "
            "was imported.",
            session=session,
            generation=record.life.generation,
            next_step=record.next_step,
            move_time_ns=record.life.delete_wall_ns,
        )
    if record.life.is_deleted:
        return errors.SessionDeleted(
            f"{session}: was deleted after {record.next_step} steps; create it anew.",
            session=session,
            generation=record.life.generation,
            next_step=record.next_step,
            delete_time_ns=record.life.delete_wall_ns,
        )
    return errors.SessionExpired(
        f"{session}: expired after {record.next_step} steps, idle for more than "
        f"{record.life.idle_ttl_ns / 1e9:g} s; create it anew, with a longer time to live.",
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

    Whoever names no generation might be the one from whom the session was taken.
    """
    if record.life.is_claimed:
        raise errors.SessionClaimed(
            f"{session}: was claimed, and is at step {record.next_step} of generation "
            f"{record.life.generation}, which the request does not name; claim it anew to go on "
            "with it.",
            session=session,
            generation=record.life.generation,
            next_step=record.next_step,
        )


def superseded(
    record: Record, session: str, generation: int
) -> errors.SessionRestarted | errors.SessionClaimed:
    """Returns the answer to a request that means another generation than the current one."""
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
        # So old that it is forgotten, it was over before the oldest that is not, and what
        # ended that has come between its caller and the session as well.
        end = record.life.past[0].end
    if end == "claimed":
        return errors.SessionClaimed(
            f"{session}: got generation {generation}, but another caller has claimed the session, "
            f"which {now}; claim it anew to go on with it.",
            **numbers,
        )
    return errors.SessionRestarted(
        f"{session}: got generation {generation}, but the session was "
        f"{'migrated' if end == 'migrated' else 'restarted'} and {now}; attach to it anew.",
        **numbers,
    )
