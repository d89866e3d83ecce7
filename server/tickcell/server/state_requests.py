"""What may be asked of a session's state as a value: to be handed over, and looked at.

Each is a rule of `lives` or `rules`, as the requests of `life_requests` are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import lives, rules
from tickcell.server.life_requests import draw_generation

if TYPE_CHECKING:
    from tickcell.server.clock import Moment
    from tickcell.server.policy import Policy
    from tickcell.server.record import Record
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
        return lives.claim(found, session, self.generation, self.request_id, new_generation, now)


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
