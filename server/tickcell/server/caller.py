"""Who uses the server. Every use names its caller, and a caller sees its owner's sessions alone."""

from __future__ import annotations

from typing import NamedTuple

from tickcell.server.store.contract import Key


class Caller(NamedTuple):
    """Who asks.

    Attributes:
      owner: whose sessions these are; "" where callers are not told apart.
    """

    owner: str

    def key(self, session: str) -> Key:
        """Returns where the record of one of its sessions lies."""
        return Key(self.owner, session)


ANYBODY = Caller("")
