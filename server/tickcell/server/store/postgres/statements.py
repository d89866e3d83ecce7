"""The statements on records. Each is a transaction by itself, and one trip.

What is there is read from the locked row, never from the snapshot: a row whose commit
still waits for its standby looks unchanged in a snapshot, and a loser would try again
without end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.server.store.contract import Change, Key

if TYPE_CHECKING:
    from collections.abc import Sequence

# One step of one session. It gives no row where there is none, or another holds it.
_STEP = """
WITH held AS MATERIALIZED (
  SELECT value FROM tickcell.record WHERE owner = $1 AND session = $2 FOR UPDATE {skip}
), stepped AS (
  UPDATE tickcell.record r SET value = $4 FROM held
    WHERE r.owner = $1 AND r.session = $2 AND held.value = $3
)
SELECT CASE WHEN value <> $3 THEN value END FROM held
"""
STEP = _STEP.format(skip="SKIP LOCKED")
# The same, and waits for whoever holds the row, as long as `lock_timeout` allows.
WAITING_STEP = _STEP.format(skip="")

# Steps of many sessions; those that another holds are left out, so that nobody ever waits.
STEPS = """
WITH held AS MATERIALIZED (
  SELECT c.place, c.expected, c.replacement, r.owner, r.session, r.value
    FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY
      AS c (owner, session, expected, replacement, place)
    JOIN tickcell.record r ON r.owner = c.owner AND r.session = c.session
    ORDER BY r.owner, r.session FOR UPDATE OF r SKIP LOCKED
), stepped AS (
  UPDATE tickcell.record r SET value = held.replacement FROM held
    WHERE r.owner = held.owner AND r.session = held.session AND held.value = held.expected
)
SELECT place, CASE WHEN value <> expected THEN value END FROM held
"""

EXCHANGE = "SELECT * FROM tickcell.exchange($1, $2, $3, $4, $5, $6, $7, $8)"

LOAD = "SELECT value FROM tickcell.record WHERE owner = $1 AND session = $2"
LOADS = """
SELECT c.place, r.value
  FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS c (owner, session, place)
  JOIN tickcell.record r ON r.owner = c.owner AND r.session = c.session
"""
SCAN = """
SELECT owner, session, value FROM tickcell.record
  WHERE (owner, session) > ($1, $2) ORDER BY owner, session LIMIT $3
"""
SCAN_OWNER = """
SELECT owner, session, value FROM tickcell.record
  WHERE owner = $1 AND session > $2 ORDER BY owner, session LIMIT $3
"""
SCAN_FROM_THE_BEGINNING = """
SELECT owner, session, value FROM tickcell.record ORDER BY owner, session LIMIT $1
"""
COUNTS = "SELECT live, ended FROM tickcell.counts"
OWNER_COUNTS = "SELECT live, ended FROM tickcell.owner_counts WHERE owner = $1"
PINNED = "SELECT model, version, fingerprint, live FROM tickcell.pin WHERE live <> 0"
SIZES = "SELECT pg_total_relation_size('tickcell.record')"


def is_step(change: Change) -> bool:
    """Says whether a change is a step's, which touches nothing but the value of a record."""
    _, expected, replacement, was_live, is_live, pin = change
    return expected is not None and replacement is not None and was_live == is_live and pin is None


def key_columns(keys: Sequence[Key]) -> tuple[list[bytes], list[bytes]]:
    """Returns owners and sessions, as they lie in the table."""
    return [key.owner.encode() for key in keys], [key.session.encode() for key in keys]


def step_columns(changes: Sequence[Change]) -> tuple[Sequence[object], ...]:
    """Returns what `STEPS` takes."""
    keys = key_columns([change.key for change in changes])
    return (*keys, [c.expected for c in changes], [c.replacement for c in changes])


def exchange_columns(changes: Sequence[Change]) -> tuple[Sequence[object], ...]:
    """Returns what `EXCHANGE` takes."""
    pins = [change.pin or (None, None, None) for change in changes]
    return (
        *step_columns(changes),
        [change.is_live for change in changes],
        *([pin[part] for pin in pins] for part in range(3)),
    )


def key_of(owner: bytes, session: bytes) -> Key:
    """Returns the key of a row.

    Raises:
      UnicodeDecodeError: the row holds no text.
    """
    return Key(owner.decode(), session.decode())
