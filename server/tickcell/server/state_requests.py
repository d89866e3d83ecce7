"""What may be asked of a session's state as a value: to be handed over, looked at and copied.

Each is a rule of `lives` or `rules`, as the requests of `life_requests` are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import beginnings, handovers, lives, rules
from tickcell.server.life_requests import check_fits, draw_generation

if TYPE_CHECKING:
    from tickcell.server.clock import Moment
    from tickcell.server.config import Limits
    from tickcell.server.life_requests import Creation
    from tickcell.server.policy import Policy
    from tickcell.server.record import Life, Record
    from tickcell.server.store.contract import Key


class Claim(NamedTuple):
    """Hands a session over to the caller.

    Attributes:
      generation: the one that the caller saw; None for whichever lives.
    """

    key: Key
    generation: int | None
    request_id: str
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record under its new generation."""
        session = self.key.session
        found = lives.live(old, session, now.store_ns, policy.retention_ns)
        new_generation = draw_generation()
        return handovers.claim(
            found, session, self.generation, self.request_id, new_generation, now
        )


class ReadOutputs(NamedTuple):
    """Shows a live session whose window has the outputs of some steps; see `rules.window_steps`."""

    key: Key
    generation: int
    first_step: int | None
    step_count: int
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record as it is."""
        found = lives.live(old, self.key.session, now.store_ns, policy.retention_ns)
        lives.check_generation(found, self.key.session, self.generation)
        self.steps(found)
        return found

    def steps(self, found: Record) -> tuple[int, int]:
        """Returns which of a record's steps are asked for: the first, and how many."""
        return rules.window_steps(found, self.key.session, self.first_step, self.step_count)


class FindCreated(NamedTuple):
    """Shows the session that a request has created, if it has."""

    key: Key
    request_id: str
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record | None:
        """Returns the record as it is."""
        beginnings.created_by(old, self.key.session, self.request_id, now, policy.retention_ns)
        return old

    def is_by_it(self, found: Record | None) -> bool:
        """Says whether the request created what was found."""
        return found is not None and found.life.request_id == self.request_id


class CreateFrom(NamedTuple):
    """Creates a session that goes on from a state, or returns the one that the request created.

    Attributes:
      of: the life that it is a copy of, whose model and sizes it has.
      start: what it begins with.
    """

    key: Key
    wanted: Creation
    of: Life
    start: beginnings.Start

    @property
    def size(self) -> int:
        """The bytes of its state and its window."""
        return len(self.start.state) + len(self.start.outputs)

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the session's record."""
        new = beginnings.create(old, self.request(policy.limits), now, policy.retention_ns)
        if new is not old:
            check_fits(self.key.session, new.life, policy.limits)
        return new

    def request(self, limits: Limits) -> beginnings.CreateRequest:
        """Returns what the record is made of, under these limits."""
        of, wanted = self.of, self.wanted
        return beginnings.CreateRequest(
            session=self.key.session,
            request_id=wanted.request_id,
            generation=draw_generation(),
            model=of.model,
            model_version=of.model_version,
            fingerprint=of.fingerprint,
            start=self.start,
            series_count=wanted.series_count,
            window=wanted.window,
            max_step_count=lives.max_step_count(
                window=wanted.window,
                series_count=wanted.series_count,
                sensor_count=of.sensor_count,
                output_count=of.output_count,
                max_request_rows=limits.max_request_rows,
                max_message_bytes=limits.max_message_bytes,
            ),
            sensor_count=of.sensor_count,
            output_count=of.output_count,
            idle_ttl_ns=wanted.idle_ttl_ns,
            labels=wanted.labels,
            origin=self.start,
        )


class Export(NamedTuple):
    """Shows a live session whose model is served, which names its state tensors."""

    key: Key
    generation: int
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record as it is."""
        found = lives.live(old, self.key.session, now.store_ns, policy.retention_ns)
        lives.check_generation(found, self.key.session, self.generation)
        policy.catalogue.pinned_to(found, self.key.session)
        return found


class Move(NamedTuple):
    """Ends a session that is exported; the same request shows it again, as it ended."""

    key: Key
    generation: int
    request_id: str
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the session's tombstone, with all that the session had."""
        new = handovers.move(
            old, self.key.session, self.generation, self.request_id, now, policy.retention_ns
        )
        policy.catalogue.pinned_to(new, self.key.session)
        return new
