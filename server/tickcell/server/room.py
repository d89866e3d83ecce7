"""Room for new sessions within one round: in the store, and among those of their owner."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors

if TYPE_CHECKING:
    from tickcell.server.policy import Policy
    from tickcell.server.store.contract import Counts, Key

# When a caller is to ask again for a session that its owner has no room for. Nobody knows when
# another one ends.
_RETRY_S = 2.0


class Count(NamedTuple):
    """Needs to know how many sessions there are: sent `Counts`.

    Attributes:
      owner: whose; None for all.
    """

    owner: str | None = None


class Room:
    """How many more sessions there may be, as far as it was asked for in this round."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        # By owner, and of all owners together under None.
        self._left: dict[str | None, int] = {}

    def take(self, key: Key) -> Generator[Count, Counts, errors.TickcellError | None]:
        """Takes the room of one session; returns why there is none."""
        owner, most = key.owner, self._policy.limits.max_sessions
        own_most = self._policy.quotas.max_sessions(owner)
        if own_most is not None and (yield from self._is_full(owner, own_most)):
            return _owner_sessions_full(key, own_most)
        if (yield from self._is_full(None, most)):
            return _sessions_full(key, most)
        self._left[None] -= 1
        if own_most is not None:
            self._left[owner] -= 1
        return None

    def _is_full(self, owner: str | None, most: int) -> Generator[Count, Counts, bool]:
        if owner not in self._left:
            counts = yield Count(owner)
            self._left[owner] = most - counts.live
        return self._left[owner] <= 0


def _sessions_full(key: Key, most: int) -> errors.SessionsFull:
    return errors.SessionsFull(
        f"{key.session}: {most} sessions are alive, which is the limit; delete some, wait, or "
        "raise --max-sessions.",
        session=key.session,
        max_session_count=most,
    )


def _owner_sessions_full(key: Key, most: int) -> errors.OwnerSessionsFull:
    error = errors.OwnerSessionsFull(
        f"{key.session}: {most} sessions of owner {key.owner!r} are alive, which is its limit; "
        f"delete some, or send it again after {_RETRY_S:g} s.",
        session=key.session,
        owner=key.owner,
        max_session_count=most,
        retry_s=f"{_RETRY_S:g}",
    )
    error.retry_s = _RETRY_S
    return error
