"""Checks all of a store: its pages, each record, and the counts beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import apsw

from tickcell.server.store.contract import Key, RecordCheck

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apsw import SQLiteValue

# Records read in one piece, so that the log of a store in use is not held up.
_AT_ONCE = 1000


class Checked(NamedTuple):
    """What a check found.

    Attributes:
      record_count: the records that were read.
      page_problems: what is wrong with the database itself; empty if nothing is.
      record_problems: the records that do not check out, each with what is wrong.
    """

    record_count: int
    page_problems: list[str]
    record_problems: list[str]


def check_all(connection: apsw.Connection, check: RecordCheck) -> Checked:
    """Checks a database, also beside live servers; changes nothing."""
    page_problems, record_problems = [], []
    record_count = 0
    try:
        for (line,) in connection.execute("PRAGMA integrity_check").fetchall():
            if line != "ok":
                page_problems.extend(str(line).splitlines())
        for key, value in _records(connection):
            record_count += 1
            problem = check(key, value) if isinstance(value, bytes) else "it holds no bytes"
            if problem is not None:
                record_problems.append(f"{'/'.join(filter(None, key))}: {problem}")
        page_problems.extend(_miscounts(connection))
        page_problems.extend(_mispinned(connection))
    except apsw.Error as error:
        page_problems.append(str(error))
    return Checked(record_count, page_problems, record_problems)


def _records(connection: apsw.Connection) -> Iterator[tuple[Key, object]]:
    last: SQLiteValue = -(1 << 63)
    while True:
        # As bytes, since a damaged text cannot be read as one.
        rows = connection.execute(
            "SELECT rowid, CAST(owner AS BLOB), CAST(session AS BLOB), value FROM record "
            "WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (last, _AT_ONCE),
        ).fetchall()
        if not rows:
            return
        for rowid, owner, session, value in rows:
            yield Key(_text(owner), _text(session)), value
            last = rowid


def _text(encoded: object) -> str:
    return encoded.decode(errors="replace") if isinstance(encoded, bytes) else repr(encoded)


def _miscounts(connection: apsw.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT live, ended, (SELECT count(*) FROM record WHERE is_live), "
        "(SELECT count(*) FROM record WHERE NOT is_live) FROM counts"
    ).fetchall()
    problems = [
        f"the counts are {live} live and {ended} ended, but the records {lives} and {ends}"
        for live, ended, lives, ends in rows
        if (live, ended) != (lives, ends)
    ]
    if len(rows) != 1:
        problems.append(f"there are {len(rows)} rows of counts")
    # A full join, since an owner may be missing on either side.
    rows = connection.execute(
        "SELECT CAST(coalesce(kept.owner, found.owner) AS BLOB), kept.live, kept.ended, "
        "found.live, found.ended FROM owner_counts kept FULL JOIN (SELECT owner, "
        "sum(is_live <> 0) live, sum(NOT is_live) ended FROM record GROUP BY owner) found "
        "ON found.owner = kept.owner WHERE (kept.live, kept.ended) IS NOT (found.live, found.ended)"
    ).fetchall()
    return problems + [
        f"the counts of owner {_text(owner)!r} are {live} live and {ended} ended, but its "
        f"records {lives} and {ends}"
        for owner, live, ended, lives, ends in rows
    ]


def _mispinned(connection: apsw.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT CAST(model AS BLOB), CAST(version AS BLOB), live, (SELECT count(*) FROM record "
        "WHERE record.pin = pin.id AND is_live) AS lives FROM pin WHERE live <> lives"
    ).fetchall()
    return [
        f"the count of {_text(model)} {_text(version)} is {live} live, but the records {lives}"
        for model, version, live, lives in rows
    ]
