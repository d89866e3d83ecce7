"""Who uses the server. Every use names its caller, and a caller sees its owner's sessions alone."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tickcell.server import errors
from tickcell.server.store.contract import Key

Role = Literal["client", "operator"]


class Caller(NamedTuple):
    """Who asks.

    Attributes:
      owner: whose sessions these are; "" where callers are not identified.
      name: `cert:` and the name in its certificate, or `token:` and the name of its token;
        "" where callers are not identified.
      role: an operator may see and end the sessions of all owners.
    """

    owner: str
    name: str = ""
    role: Role = "client"

    def key(self, session: str) -> Key:
        """Returns where the record of one of its sessions lies."""
        return Key(self.owner, session)

    def acting_for(self, owner: str) -> Caller:
        """Returns the caller acting for another owner.

        Raises:
          OperatorsOnly: it is another owner, and the caller is not an operator.
        """
        if owner != self.owner:
            self.require_operator("names an owner other than its caller's")
        return self._replace(owner=owner)

    def require_operator(self, why: str) -> None:
        """Raises unless the caller is an operator.

        Args:
          why: what the call does, after "the call ".

        Raises:
          OperatorsOnly: the caller is not an operator.
        """
        if self.role != "operator":
            raise errors.OperatorsOnly(
                f"the call {why}, which only operators may; {self.name} is a {self.role}.",
                caller=self.name,
                role=self.role,
            )


# A server that does not identify callers lets everyone who reaches it do everything.
ANYBODY = Caller("", role="operator")
