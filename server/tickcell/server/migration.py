"""A session goes on with another version of its model: what that takes, and the request for it.

The state is kept where both versions have the same state tensors. Else it is taken from
another session, of the new version, which was given the frames to burn in, as steps of its
own: so there is no second way to step, and nothing to be seen before the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors, handovers, lives
from tickcell.server.life_requests import check_fits, draw_generation

if TYPE_CHECKING:
    from tickcell.model import Interface
    from tickcell.server.catalogue import ServedModel
    from tickcell.server.clock import Moment
    from tickcell.server.config import Limits
    from tickcell.server.policy import Policy
    from tickcell.server.record import Life, Record
    from tickcell.server.store.contract import Key


class BurnIn(NamedTuple):
    """A session whose state is taken.

    Attributes:
      session: its id.
      generation: the life that is meant.
      step: where it must stand; None for wherever it does.
    """

    session: str
    generation: int
    step: int | None

    def check(self, found: Record, model: ServedModel) -> None:
        """Checks the record of that session.

        Raises:
          SessionRestarted, SessionClaimed: another generation is meant.
          ArgumentInvalid, StepStale, StepGap: it does not stand at the step.
          MigrationRefused: it is of another version than the one to migrate to.
        """
        lives.check_generation(found, self.session, self.generation)
        handovers.check_step(found, self.session, self.step)
        if found.life.fingerprint != model.fingerprint:
            raise _refused(
                self.session,
                "is the session that was burnt in",
                f"{found.life.model} {found.life.model_version}",
                f"{model.card.name} {model.card.version}",
                "burn in a session of that version",
            )


class FindMigrated(NamedTuple):
    """Shows a live session."""

    key: Key
    generation: int
    request_id: str
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record as it is."""
        found = lives.live(old, self.key.session, now.store_ns, policy.retention_ns)
        if not self.is_done(found):
            lives.check_generation(found, self.key.session, self.generation)
        return found

    def is_done(self, found: Record) -> bool:
        """Says whether the request has migrated the session already."""
        return found.life.migrate_request_id == self.request_id


class Migrate(NamedTuple):
    """Lets a session go on with another version of its model.

    Attributes:
      model: that version.
      burnt_in: the record of a session of it, whose state is taken; None to keep the own state.
      burnt_in_session: that session's id; "" for none.
    """

    key: Key
    generation: int
    request_id: str
    model: ServedModel
    burnt_in: Record | None
    burnt_in_session: str = ""
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record under its new generation."""
        session = self.key.session
        found = lives.live(old, session, now.store_ns, policy.retention_ns)
        if found.life.migrate_request_id == self.request_id:
            return found
        lives.check_generation(found, session, self.generation)
        old_interface = policy.catalogue.pinned_to(found, session).cell.interface
        keeps_tensors = self._check(found, old_interface)
        new = handovers.migrate(
            found, self._version(found.life, keeps_tensors, policy.limits), self.request_id, now
        )
        check_fits(session, new.life, policy.limits)
        return new

    def _check(self, found: Record, old: Interface) -> bool:
        """Checks that the session can go on so; returns whether the state tensors are the same."""
        session, new, life = self.key.session, self.model.cell.interface, found.life
        if life.fingerprint == self.model.fingerprint:
            raise errors.ArgumentInvalid(
                f"{session}: model_version: got {self.model.card.version}, expected a version "
                "other than the session's.",
                session=session,
                field="model_version",
                got=self.model.card.version,
            )
        got, expected = (", ".join(each.name for each in one.sensors) for one in (new, old))
        if got != expected:
            way_out = "create a session of that version"
            raise _refused(session, "has other sensors", got, expected, way_out)
        got, expected = _tensors(new), _tensors(old)
        if self.burnt_in is None and got != expected:
            way_out = "burn in a session of it, and name that"
            raise _refused(session, "has other state tensors", got, expected, way_out)
        if self.burnt_in is not None and self.burnt_in.life.series_count != life.series_count:
            raise _refused(
                session,
                "has a session with another number of series",
                self.burnt_in.life.series_count,
                life.series_count,
                "burn in one with as many",
            )
        return got == expected

    def _version(self, life: Life, keeps_tensors: bool, limits: Limits) -> handovers.Version:
        interface, burnt_in = self.model.cell.interface, self.burnt_in
        return handovers.Version(
            generation=draw_generation(),
            model=self.model.card.name,
            model_version=self.model.card.version,
            fingerprint=self.model.fingerprint,
            numerics=self.model.numerics if burnt_in is None else burnt_in.numerics,
            output_count=interface.output_count,
            max_step_count=lives.max_step_count(
                window=life.window,
                series_count=life.series_count,
                sensor_count=interface.sensor_count,
                output_count=interface.output_count,
                max_request_rows=limits.max_request_rows,
                max_message_bytes=limits.max_message_bytes,
            ),
            state=None if burnt_in is None else burnt_in.state,
            keeps_origin=keeps_tensors,
        )


def _tensors(interface: Interface) -> str:
    """Returns the state tensors, in the order in which they lie in a row."""
    return ", ".join(f"{each.name} {[*each.shape]}" for each in interface.state_tensors)


def _refused(
    session: str, problem: str, got: object, expected: object, way_out: str
) -> errors.MigrationRefused:
    return errors.MigrationRefused(
        f"{session}: the other version {problem}: got {str(got)[:300]}, expected "
        f"{str(expected)[:300]}; {way_out}.",
        session=session,
        problem=problem,
        got=str(got)[:300],
        expected=str(expected)[:300],
    )
