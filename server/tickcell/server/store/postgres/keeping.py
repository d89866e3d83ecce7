"""What is due each second: the store's clock, and the rows of its servers; in one statement."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from tickcell.server.store.contract import Pin, Served
from tickcell.server.store.errors import StoreDamagedError, StorePutBackError
from tickcell.server.store.postgres.identity import READ, Identity
from tickcell.server.store.store_clock import Kept, StoreClock

if TYPE_CHECKING:
    from tickcell.server.store.postgres.address import Address
    from tickcell.server.store.postgres.link import Link
    from tickcell.server.store.store_clock import Monotonic

# Some upkeeps, as of `peers`.
_GONE_NS = 5_000_000_000
# The clock of another machine tells nothing here: what it kept counts from when it is read.
_NEVER_NS = -(1 << 62)

# The furthest of the servers wins: who is behind moves nothing, and reads it the next time.
# Nor does who read it before its durability was changed: its checksum would be of the old one.
KEEP = """
WITH kept AS (
  UPDATE tickcell.store SET clock_ns = $1::bigint, checksum = $2
    WHERE id = $3 AND durability = $4 AND clock_ns <= $1 RETURNING one
), renewed AS (
  INSERT INTO tickcell.server AS s (id, renew_ns, served)
    SELECT $5, $1, $6 WHERE $6::text IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET renew_ns = EXCLUDED.renew_ns, served = EXCLUDED.served
), aged AS (
  DELETE FROM tickcell.server WHERE abs(renew_ns - $1) > $7::bigint AND id <> $5
)
SELECT EXISTS (SELECT FROM kept), s.served
  FROM (VALUES (1)) AS always LEFT JOIN tickcell.server s
    ON s.id <> $5 AND abs(s.renew_ns - $1) <= $7
"""
LEAVE = "DELETE FROM tickcell.server WHERE id = $1"


class Keeping:
    """The clock as this server sees it, and what the others serve.

    Attributes:
      peers: what the other servers have announced, as the last upkeep found it.
    """

    def __init__(self, address: Address, monotonic_ns: Monotonic) -> None:
        self.peers: list[Served] = []
        self._address = address
        self._server = secrets.token_hex(8)
        self._announced: str | None = None
        self._clock = StoreClock(Kept(0, monotonic_ns()), monotonic_ns)
        self._identity: Identity | None = None

    @property
    def id(self) -> str:
        """The store's; "" before it was reached."""
        return "" if self._identity is None else self._identity.id

    def now_ns(self) -> int:
        """Returns the store's own clock."""
        return self._clock.now_ns()

    def announce(self, served: Served) -> None:
        """Says what this server serves; one that never does is no server."""
        self._announced = json.dumps([sorted(served.loaded), sorted(served.offered)])

    def begin(self, identity: Identity) -> None:
        """Begins with what the store says when it is reached for the first time."""
        if self._identity is None:
            self._identity = identity
            self._clock.begin(Kept(identity.clock_ns, _NEVER_NS))

    async def keep(self, link: Link) -> Identity:
        """Keeps the clock, renews this server's row, and hears of the others.

        Raises:
          StorePutBackError: the store is an older one than it was.
          StoreDamagedError: a row does not check out.
        """
        found = Identity.of(self._address, await link.shielded(READ))
        kept = Kept(found.clock_ns, _NEVER_NS)
        is_put_back = found.id != self.id or self._clock.is_ahead_of(kept)
        if is_put_back:
            self._clock.begin(kept)
        self._identity = found
        self._clock.follow(kept)
        following = self._clock.next()
        written = found._replace(clock_ns=following.now_ns)
        rows = await link.shielded(
            *(KEEP, written.clock_ns, written.checksum, found.id, found.durability),
            *(self._server, self._announced, _GONE_NS),
        )
        is_kept = rows[0][0]
        if is_kept:
            self._clock.confirm(following)
        self.peers = [self._served(served) for _, served in rows if served is not None]
        if is_put_back:
            raise StorePutBackError(
                f"{self._address}: was put back to an older state, since its clock is behind; "
                "later commits are gone, and clients get STEP_GAP."
            )
        return found

    async def leave(self, link: Link) -> None:
        """Removes this server's row, so that nobody counts on it any more."""
        await link.shielded(LEAVE, self._server)

    def _served(self, served: str) -> Served:
        try:
            loaded, offered = json.loads(served)
            return Served(
                frozenset(Pin(*pin) for pin in loaded), frozenset(Pin(*pin) for pin in offered)
            )
        except (TypeError, ValueError) as error:
            raise StoreDamagedError(f"{self._address}: the row of a server is damaged.") from error
