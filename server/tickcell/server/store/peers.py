"""Which servers keep a store up, and what each of them serves: one row a process.

A row is renewed by its server's upkeep, and removed when it is not renewed any more,
by the store's clock.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from tickcell.server.store.contract import Pin, Served
from tickcell.server.store.errors import damaged

if TYPE_CHECKING:
    import pathlib

    import apsw

# Some upkeeps: one that is late, or finds the store locked, loses nothing.
_GONE_NS = 5_000_000_000

_RENEW = "INSERT OR REPLACE INTO server (id, renew_ns, served) VALUES (?, ?, ?)"
# Also those that a store which was put back has from its future.
_AGE = "DELETE FROM server WHERE abs(renew_ns - ?) > ?"
_OTHERS = "SELECT served FROM server WHERE id <> ?"
_LEAVE = "DELETE FROM server WHERE id = ?"


class Peers:
    """One process among the servers of a store.

    Attributes:
      served: what the others serve, as the last renewal found it.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.served: list[Served] = []
        self._directory = directory
        self._id = secrets.token_hex(8)
        self._announced: str | None = None

    def announce(self, served: Served) -> None:
        """Says what this process serves; one that never does is no server."""
        self._announced = json.dumps([sorted(served.loaded), sorted(served.offered)])

    def renew(self, connection: apsw.Connection, now_ns: int) -> list[Served]:
        """Renews this process's row within a transaction, and returns what the others serve.

        Raises:
          StoreDamagedError: a row is not as a server writes it.
        """
        if self._announced is not None:
            connection.execute(_RENEW, (self._id, now_ns, self._announced))
        connection.execute(_AGE, (now_ns, _GONE_NS))
        try:
            return [_read(*row) for row in connection.execute(_OTHERS, (self._id,)).fetchall()]
        except (TypeError, ValueError) as error:
            raise damaged(self._directory, "the row of a server is damaged") from error

    def leave(self, connection: apsw.Connection) -> None:
        """Removes this process's row, so that nobody counts on it any more."""
        connection.execute(_LEAVE, (self._id,))


def _read(served: object) -> Served:
    loaded, offered = json.loads(str(served))
    return Served(frozenset(Pin(*pin) for pin in loaded), frozenset(Pin(*pin) for pin in offered))
