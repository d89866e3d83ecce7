"""The session contract on how lives begin: created, begun in place of another, reset. Pure.

See `lives` for what all of these functions take and give.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors, lives
from tickcell.server.record import Generation, Life, Record
from tickcell.wire import history

if TYPE_CHECKING:
    from collections.abc import Callable

    from tickcell.server.clock import Moment


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
    if record is None or lives.is_forgotten(record, now.store_ns, retention_ns):
        return None
    if record.life.request_id == request_id:
        return _begun(record, session, now, retention_ns)
    if lives.has_ended(record, now.store_ns):
        return None
    raise errors.SessionExists(
        f"{session}: already exists, at step {record.next_step}; attach to it, or choose "
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
    if record is None or lives.is_forgotten(record, now.store_ns, retention_ns):
        return _created(request, now)
    life = record.life
    if life.request_id == request.request_id:
        return _begun(record, request.session, now, retention_ns)
    if life.follows == request.request_id:
        raise lives.superseded(record, request.session, request.generation)
    past = () if lives.has_ended(record, now.store_ns) else lives.past(life, "begun")
    return _created(request, now, follows=life.request_id, past=past)


def _begun(record: Record, session: str, now: Moment, retention_ns: int) -> Record:
    """Returns the life that a request has begun, if it is still its caller's."""
    found = lives.live(record, session, now.store_ns, retention_ns)
    lives.check_unclaimed(found, session)
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
    lives.check_generation(record, session, generation)
    start = origin_of(record) or cells_start(record)
    return lives.renewed(record, now)._replace(
        life=dataclasses.replace(
            record.life,
            generation=new_generation,
            past=lives.past(record.life, "reset"),
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
