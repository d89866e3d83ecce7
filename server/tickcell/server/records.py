"""The store as turns and lives use it: short locks waited for, verdicts as errors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tickcell.server import errors, store

if TYPE_CHECKING:
    from collections.abc import Sequence

# What another server's commit takes, and then ever longer, for a second in all.
_WAITS_S = (0.001, 0.004, 0.016, 0.064, 0.2, 0.3, 0.4)


def key(session: str, owner: str = "") -> store.Key:
    """Returns where a session's record lies.

    The owner is empty as long as callers are not told apart.
    """
    return store.Key(owner, session)


class Records:
    """The records of one store."""

    def __init__(self, opened: store.EmbeddedStore) -> None:
        self._store = opened

    def load(self, keys: Sequence[store.Key]) -> list[bytes | None]:
        """Reads records; what is read survives what the store's durability says.

        Raises:
          StoreDamaged, StoreAway: the store cannot be read.
        """
        try:
            loaded = self._store.load(keys)
            if self._store.syncs:
                self._store.make_durable()
        except store.StoreError as error:
            raise _answer(error) from error
        return loaded

    def commit(self, changes: Sequence[store.Change]) -> list[bool | errors.TickcellError]:
        """Applies each change whose record is as expected.

        Returns:
          For each change whether it was applied; or why it could not be, or may not
          have been.

        Raises:
          StoreBusy, StoreDamaged, StoreAway: nothing was applied.
        """
        try:
            verdicts = self._commit_unlocked(changes)
        except store.StoreError as error:
            raise _answer(error) from error
        if self._store.syncs:
            try:
                self._store.make_durable()
            except store.StoreError as error:
                return [_unknown(change.key.session, str(error)) for change in changes]
        pairs = zip(changes, verdicts, strict=True)
        return [_settled(change.key.session, verdict) for change, verdict in pairs]

    def exchange(self, change: store.Change) -> bool:
        """Commits one change; returns whether it was applied.

        Raises:
          StoreFull, StoreBusy, StoreDamaged, StoreAway: it was not.
          OutcomeUnknown: it may have been.
        """
        (settled,) = self.commit((change,))
        if isinstance(settled, errors.TickcellError):
            raise settled
        return settled

    def scan(
        self, owner: str | None, after: store.Key | None, limit: int
    ) -> list[tuple[store.Key, bytes]]:
        """Reads records in the order of their keys, as `EmbeddedStore.scan` says.

        Raises:
          StoreDamaged, StoreAway: the store cannot be read.
        """
        try:
            return self._store.scan(owner, after, limit)
        except store.StoreError as error:
            raise _answer(error) from error

    def live_count(self) -> int:
        """Returns how many sessions live.

        Raises:
          StoreDamaged, StoreAway: the store cannot be read.
        """
        try:
            return self._store.counts().live
        except store.StoreError as error:
            raise _answer(error) from error

    def _commit_unlocked(self, changes: Sequence[store.Change]) -> list[store.Verdict]:
        """Commits as soon as no other process holds the store's lock."""
        verdicts = self._store.commit(changes)
        for wait_s in _WAITS_S:
            if not any(isinstance(verdict, store.Contended) for verdict in verdicts):
                return verdicts
            time.sleep(wait_s)
            verdicts = self._store.commit(changes)
        if any(isinstance(verdict, store.Contended) for verdict in verdicts):
            raise errors.StoreBusy(
                "another process has held the store's lock for a second; nothing was applied, and "
                "sending it again is safe."
            )
        return verdicts


def _answer(error: store.StoreError) -> errors.TickcellError:
    """Returns what a caller is answered where the store fails and nothing was applied."""
    kind = errors.StoreDamaged if isinstance(error, store.StoreDamagedError) else errors.StoreAway
    return kind(f"nothing was applied: {error}", store=error)


def _settled(session: str, verdict: store.Verdict) -> bool | errors.TickcellError:
    if isinstance(verdict, store.Applied):
        return True
    if isinstance(verdict, store.Full):
        return errors.StoreFull(
            f"{session}: nothing was applied: {verdict.why}", session=session, store=verdict.why
        )
    if isinstance(verdict, store.Unknown):
        return _unknown(session, verdict.why)
    return False


def _unknown(session: str, why: str) -> errors.OutcomeUnknown:
    return errors.OutcomeUnknown(
        f"{session}: whether it was applied is not known: {why}; sending it again is safe where "
        "it names its first_step.",
        session=session,
        store=why,
    )
