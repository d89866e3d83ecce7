"""The session contract on how a life goes on elsewhere: claimed, forked, moved, migrated. Pure.

See `lives` for what all of these functions take and give.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors, lives
from tickcell.server.beginnings import Start
from tickcell.server.record import Record

if TYPE_CHECKING:
    from tickcell.server.clock import Moment


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
    lives.check_generation(record, session, generation)
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
            f"{session}: got step {step}, but the session is at {here}; send it again once the "
            "session is there, or name no step.",
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
        lives.check_generation(record, session, generation)
    return lives.renewed(record, now)._replace(
        life=dataclasses.replace(
            record.life,
            generation=new_generation,
            past=lives.past(record.life, "claimed"),
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
        past=lives.past(life, "migrated"),
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
    gone_on = lives.renewed(record, now)._replace(
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
        and not lives.is_forgotten(record, now.store_ns, retention_ns)
    ):
        return record
    record = lives.live(record, session, now.store_ns, retention_ns)
    lives.check_generation(record, session, generation)
    life = dataclasses.replace(lives.deleted(record.life, now), move_request_id=request_id)
    return record._replace(life=life)
