"""The servers of one store: which of them is asked, and that they are of one store.

Any server takes any step, so nothing depends on the choice but load: by the session's
id, sessions spread over the servers, and each stays with one as long as that answers.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from tickcell.client import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.client.address import Address


class Servers:
    """The addresses of one store's servers, one of which is asked.

    For several threads at once: a session is touched while it is stepped.

    Attributes:
      addresses: in the order given.
      name: all of them, for texts.
    """

    def __init__(self, addresses: Sequence[Address], session: str = "") -> None:
        """Begins with the first in the session's order.

        Args:
          addresses: at least one.
          session: orders them, each session in its own way; "" for the order given.
        """
        self.addresses = tuple(addresses)
        self.name = ",".join(address.text for address in addresses)
        self._order = sorted(addresses, key=lambda each: _weight(session, each) if session else b"")
        self._at = 0
        # What was expected of each, and what each that has said so has.
        self._store_id = ""
        self._store_ids: dict[Address, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._order)

    @property
    def current(self) -> Address:
        """The one to ask."""
        with self._lock:
            return self._order[self._at]

    @property
    def is_store_known(self) -> bool:
        """Whether it is known which store the servers are expected to keep."""
        with self._lock:
            return bool(self._store_id)

    def leave(self, address: Address) -> None:
        """Goes on to the next, unless somebody has already."""
        with self._lock:
            if self._order[self._at] is address:
                self._at = (self._at + 1) % len(self._order)

    def check_store(self, address: Address, store_id: str, *, is_proven: bool = False) -> None:
        """Checks that a server's store is the one of the others.

        A restored store has another id, on all of its servers.

        Args:
          address: of the server.
          store_id: of its store.
          is_proven: whether it has the life of the session that is meant, so that it is no
            other store but that one, restored.

        Raises:
          StoreDiffersError: it is another, as long as not all servers have that.
        """
        with self._lock:
            self._store_ids[address] = store_id
            have_all = len(self._store_ids) == len(self) and len({*self._store_ids.values()}) == 1
            if not self._store_id or is_proven or have_all:
                self._store_id = store_id
            expected = self._store_id
        if store_id != expected:
            raise errors.StoreDiffersError(
                f"{address}: keeps sessions in the store {store_id}, expected {expected}, as "
                f"others of {self.name}; all servers of a client must share one store."
            )


def _weight(session: str, address: Address) -> bytes:
    # Whoever leaves a server goes to one that its neighbours there do not all go to.
    return hashlib.blake2b(f"{address} {session}".encode(), digest_size=8).digest()
