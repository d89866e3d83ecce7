"""The statements on records, on one connection and in whichever transaction it is in."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import apsw

from tickcell.server.store.contract import APPLIED, Change, Full, Key, Lost, Verdict
from tickcell.server.store.errors import damaged

# As bytes: of a damaged row, the type may be another.
_FIND = "SELECT CAST(value AS BLOB) FROM record WHERE owner = ? AND session = ?"
_KNOW_PIN = "INSERT INTO pin (model, version, fingerprint) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_ADD = """
INSERT INTO record (value, is_live, pin, owner, session) VALUES
  (?, ?, (SELECT id FROM pin WHERE (model, version, fingerprint) = (?, ?, ?)), ?, ?)
ON CONFLICT DO NOTHING
"""
_STEP = "UPDATE record SET value = ? WHERE owner = ? AND session = ? AND value = ?"
# With no pin, with NULL for its parts, the old one stays.
_TURN = """
UPDATE record SET value = ?, is_live = ?,
  pin = coalesce((SELECT id FROM pin WHERE (model, version, fingerprint) = (?, ?, ?)), pin)
WHERE owner = ? AND session = ? AND value = ?
"""
# Of no record, with NULL for its value, it removes none.
_REMOVE = "DELETE FROM record WHERE owner = ? AND session = ? AND value = ?"
_NO_PIN = (None, None, None)
_SCAN = "SELECT owner, session, value FROM record {where} ORDER BY owner, session LIMIT ?"


class Records:
    """The table of records. Errors are apsw's, but for rows that are not as they must be."""

    def __init__(self, directory: pathlib.Path, connection: apsw.Connection) -> None:
        self._directory = directory
        self._connection = connection
        cursor = connection.cursor()
        self._execute, self._execute_many = cursor.execute, cursor.executemany

    def find(self, key: Key) -> bytes | None:
        """Returns a record.

        Raises:
          StoreDamagedError: its row holds something else.
        """
        # All of them, so that the statement is done and reads no longer.
        match self._execute(_FIND, key).fetchall():
            case []:
                return None
            case [(bytes(value),)]:
                return value
        raise damaged(self._directory, f"the row of {key.session!r} holds no record")

    def replace(self, key: Key, expected: bytes, replacement: bytes) -> bool:
        """Replaces a record by one that counts alike; returns whether it was as expected."""
        owner, session = key
        self._execute(_STEP, (replacement, owner, session, expected))
        return self._connection.changes() > 0

    def apply_all(self, changes: Sequence[Change], *, may_add: bool) -> list[Verdict]:
        """Applies changes of different records; see `apply`."""
        steps = [
            (change.replacement, *change.key, change.expected)
            for change in changes
            if _is_step(change)
        ]
        if len(steps) == len(changes):
            before = self._connection.total_changes()
            self._execute_many(_STEP, steps)
            if self._connection.total_changes() - before == len(steps):
                return [APPLIED] * len(steps)
            # Those that were replaced are found to be so.
        return [self.apply(change, may_add=may_add) for change in changes]

    def apply(self, change: Change, *, may_add: bool) -> Verdict:
        """Applies a change if its record is as expected.

        The change first and then, of a loser only, what is there: the quickest way.

        Args:
          change: what to apply.
          may_add: whether there is room for a record that was not there.
        """
        (owner, session), expected, replacement, _, is_live, pin = change
        is_tried = True
        if pin is not None and (may_add or expected is not None):
            self._execute(_KNOW_PIN, pin)
        if replacement is None:
            self._execute(_REMOVE, (owner, session, expected))
        elif expected is not None and _is_step(change):
            self.replace(change.key, expected, replacement)
        elif expected is not None:
            self._execute(
                _TURN, (replacement, is_live, *(pin or _NO_PIN), owner, session, expected)
            )
        elif may_add:
            self._execute(_ADD, (replacement, is_live, *(pin or _NO_PIN), owner, session))
        else:
            is_tried = False
        if is_tried and self._connection.changes():
            return APPLIED
        found = self.find(change.key)
        if found == replacement:
            return APPLIED
        if found is not None and found == expected:
            # The same bytes, and yet not found: of another type, or missing in the index.
            raise damaged(self._directory, f"the row of {session!r} cannot be replaced")
        if found is None and not is_tried:
            return Full(
                "the disk is nearly full, and the remaining room is kept for existing sessions"
            )
        return Lost(found)

    def scan(self, owner: str | None, after: Key | None, limit: int) -> list[tuple[Key, bytes]]:
        """Reads records in order; see `EmbeddedStore.scan`.

        Raises:
          StoreDamagedError: a row holds something else.
        """
        where, values = "", tuple[str, ...]()
        if owner is not None:
            where = "WHERE owner = ? AND session > ?"
            values = owner, after.session if after else ""
        elif after is not None:
            where, values = "WHERE (owner, session) > (?, ?)", after
        found = list[tuple[Key, bytes]]()
        try:
            for row in self._execute(_SCAN.format(where=where), (*values, limit)).fetchall():
                match row:
                    case (str(row_owner), str(session), bytes(value)):
                        found.append((Key(row_owner, session), value))
                    case _:
                        raise damaged(self._directory, "a row holds no record")
        except UnicodeDecodeError as error:
            raise damaged(self._directory, f"a row holds no text ({error})") from error
        return found


def _is_step(change: Change) -> bool:
    """Says whether a change replaces a record by one that counts alike."""
    _, expected, replacement, was_live, is_live, pin = change
    return not (expected is None or replacement is None or was_live != is_live or pin is not None)
