"""The store's SQLite database: its tables, its connections, and the row that says what it is."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import struct
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple, cast

import apsw

from tickcell.server.store import directory as directories
from tickcell.server.store.contract import Counts, Pin
from tickcell.server.store.directory import DATABASE, NEW_DATABASE
from tickcell.server.store.durability import Durability
from tickcell.server.store.errors import NewerSchemaError, NotAStoreError, StoreStartError, damaged
from tickcell.server.store.store_clock import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = 1

# "tick": what SQLite and file(1) know a database by.
_APPLICATION_ID = 0x7469636B

# Before it, two checkpoints at once could damage the log.
_OLDEST_SQLITE = (3, 51, 3)

# The records have a rowid: without one, those above about 1,000 bytes would overflow
# their page, at twice the time. The counts, of all, of each owner that has records and of
# each model version, follow the columns `is_live` and `pin` by themselves; a step does not
# name them, so no trigger runs.
_TABLES = """
CREATE TABLE record (
  owner TEXT NOT NULL,
  session TEXT NOT NULL,
  is_live INTEGER NOT NULL,
  pin INTEGER,
  value BLOB NOT NULL,
  UNIQUE (owner, session)
);
CREATE TABLE pin (
  id INTEGER PRIMARY KEY,
  model TEXT NOT NULL,
  version TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  live INTEGER NOT NULL DEFAULT 0,
  UNIQUE (model, version, fingerprint)
);
CREATE TABLE counts (live INTEGER NOT NULL, ended INTEGER NOT NULL);
INSERT INTO counts VALUES (0, 0);
CREATE TABLE owner_counts (
  owner TEXT PRIMARY KEY NOT NULL,
  live INTEGER NOT NULL,
  ended INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER record_added AFTER INSERT ON record BEGIN
  UPDATE counts SET live = live + NEW.is_live, ended = ended + 1 - NEW.is_live;
  INSERT INTO owner_counts SELECT NEW.owner, 0, 0
    WHERE NOT EXISTS (SELECT 1 FROM owner_counts WHERE owner = NEW.owner);
  UPDATE owner_counts SET live = live + NEW.is_live, ended = ended + 1 - NEW.is_live
    WHERE owner = NEW.owner;
  UPDATE pin SET live = live + NEW.is_live WHERE id = NEW.pin;
END;
CREATE TRIGGER record_removed AFTER DELETE ON record BEGIN
  UPDATE counts SET live = live - OLD.is_live, ended = ended - 1 + OLD.is_live;
  UPDATE owner_counts SET live = live - OLD.is_live, ended = ended - 1 + OLD.is_live
    WHERE owner = OLD.owner;
  DELETE FROM owner_counts WHERE owner = OLD.owner AND live = 0 AND ended = 0;
  UPDATE pin SET live = live - OLD.is_live WHERE id = OLD.pin;
END;
CREATE TRIGGER record_turned AFTER UPDATE OF is_live, pin ON record BEGIN
  UPDATE counts SET
    live = live + NEW.is_live - OLD.is_live, ended = ended + OLD.is_live - NEW.is_live;
  UPDATE owner_counts SET
    live = live + NEW.is_live - OLD.is_live, ended = ended + OLD.is_live - NEW.is_live
    WHERE owner = NEW.owner;
  UPDATE pin SET live = live - OLD.is_live WHERE id = OLD.pin;
  UPDATE pin SET live = live + NEW.is_live WHERE id = NEW.pin;
END;
CREATE TABLE server (
  id TEXT PRIMARY KEY NOT NULL,
  renew_ns INTEGER NOT NULL,
  served TEXT NOT NULL
);
CREATE TABLE store (
  id TEXT NOT NULL,
  durability TEXT NOT NULL,
  clock_ns INTEGER NOT NULL,
  clock_at_ns INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  log_count INTEGER NOT NULL
);
"""


class Identity(NamedTuple):
    """The one row of the table `store`.

    Attributes:
      id: 16 bytes in hexadecimal, drawn at creation and by `restore`.
      durability: what an acknowledged commit survives.
      clock: see `store_clock`.
    """

    id: str
    durability: Durability
    clock: Kept

    @property
    def checksum(self) -> int:
        """The CRC-32 of all the rest."""
        return zlib.crc32(f"{self.id} {self.durability}".encode() + struct.pack("<qq", *self.clock))


def connect(directory: pathlib.Path, vfs: str | None, name: str = DATABASE) -> apsw.Connection:
    """Opens a database that exists; nothing waits for a lock.

    Raises:
      apsw.Error: SQLite cannot open it.
      StoreStartError: this SQLite is too old.
    """
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < _OLDEST_SQLITE:
        raise StoreStartError(
            f"{directory}: got SQLite {apsw.sqlite_lib_version()} from apsw, expected "
            f"{'.'.join(map(str, _OLDEST_SQLITE))} or newer, since older ones can damage a store; "
            "upgrade apsw."
        )
    connection = apsw.Connection(str(directory / name), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(0)
    # Checkpoints have a thread of their own: see `write_ahead_log`.
    connection.wal_autocheckpoint(0)
    # The log is synced by the second, or before the answer: see `durability`.
    connection.pragma("synchronous", "NORMAL")
    connection.pragma("cell_size_check", True)
    return connection


def create(directory: pathlib.Path, durability: Durability, vfs: str | None) -> None:
    """Creates the database of a new store; it has its name only when it is whole."""
    path = directory / NEW_DATABASE
    path.unlink(missing_ok=True)
    connection = apsw.Connection(str(path), vfs=vfs)
    try:
        connection.pragma("application_id", _APPLICATION_ID)
        connection.pragma("user_version", SCHEMA)
        with connection:
            connection.execute(_TABLES)
            connection.execute("INSERT INTO store VALUES ('', '', 0, 0, 0, 0)")
            write_identity(connection, Identity(new_id(), durability, Kept(0, time.monotonic_ns())))
        connection.pragma("journal_mode", "wal")
    finally:
        connection.close()
    put_in_place(directory)


def put_in_place(directory: pathlib.Path) -> None:
    """Gives a whole new database its name; a power cut leaves it with the one or the other."""
    os.chmod(directory / NEW_DATABASE, 0o600)
    directories.sync_directory(directory)
    (directory / NEW_DATABASE).rename(directory / DATABASE)
    directories.sync_directory(directory)


def new_id() -> str:
    """Draws a store's id."""
    return secrets.token_hex(16)


def require_schema(directory: pathlib.Path, connection: apsw.Connection) -> int:
    """Returns the version of a database's tables.

    Raises:
      NotAStoreError: it is another program's.
      NewerSchemaError: it is newer than this tickcell.
    """
    if connection.pragma("application_id") != _APPLICATION_ID:
        raise NotAStoreError(f"{directory}: holds a database that tickcell did not write.")
    schema = int(connection.pragma("user_version"))
    if schema > SCHEMA:
        raise NewerSchemaError(
            f"{directory}: has schema {schema}, this tickcell reads up to {SCHEMA}; upgrade "
            "tickcell, or name another directory with --store."
        )
    return schema


def read_identity(directory: pathlib.Path, connection: apsw.Connection) -> Identity:
    """Reads what the store says of itself.

    Raises:
      StoreDamagedError: it does not check out.
    """
    rows = connection.execute(
        "SELECT id, durability, clock_ns, clock_at_ns, checksum FROM store"
    ).fetchall()
    match rows:
        case [(str(store_id), str(durability), int(now_ns), int(at_ns), checksum)]:
            identity = Identity(store_id, cast("Durability", durability), Kept(now_ns, at_ns))
            if identity.checksum == checksum:
                return identity
    raise damaged(directory, "its clock and id are damaged")


def read_counts(
    directory: pathlib.Path, connection: apsw.Connection, owner: str | None = None
) -> Counts:
    """Reads how many records there are: of one owner, or of all together.

    Raises:
      StoreDamagedError: the counts are not there, or are no numbers.
    """
    if owner is None:
        rows = connection.execute("SELECT live, ended FROM counts").fetchall()
    else:
        rows = connection.execute(
            "SELECT live, ended FROM owner_counts WHERE owner = ?", (owner,)
        ).fetchall() or [(0, 0)]
    match rows:
        case [(int(live), int(ended))]:
            return Counts(live, ended)
    raise damaged(directory, "its counts are damaged")


def read_pinned(directory: pathlib.Path, connection: apsw.Connection) -> dict[Pin, int]:
    """Reads how many live sessions are pinned to each model version.

    Raises:
      StoreDamagedError: a row holds something else.
    """
    pinned = {}
    try:
        for row in connection.execute(
            "SELECT model, version, fingerprint, live FROM pin WHERE live <> 0"
        ).fetchall():
            match row:
                case (str(model), str(version), str(fingerprint), int(live)):
                    pinned[Pin(model, version, fingerprint)] = live
                case _:
                    raise damaged(directory, "its counts by model are damaged")
    except UnicodeDecodeError as error:
        raise damaged(directory, f"its counts by model hold no text ({error})") from error
    return pinned


def require_counted(directory: pathlib.Path, connection: apsw.Connection) -> None:
    """Checks what is quick, some 10 ms of 300,000 records: that their number is as it should be.

    Raises:
      StoreDamagedError: it is not, as where the root of a tree is damaged.
    """
    rows = connection.execute(
        "SELECT live + ended, (SELECT count(*) FROM record) FROM counts"
    ).fetchall()
    if len(rows) != 1 or rows[0][0] != rows[0][1]:
        raise damaged(directory, "the number of its records is not the one that it counted")


def write_identity(connection: apsw.Connection, identity: Identity) -> None:
    """Writes what the store says of itself, within a transaction."""
    connection.execute(
        "UPDATE store SET id = ?, durability = ?, clock_ns = ?, clock_at_ns = ?, checksum = ?",
        (identity.id, identity.durability, *identity.clock, identity.checksum),
    )


@contextlib.contextmanager
def transaction(connection: apsw.Connection, begin: str) -> Iterator[Callable[[], object]]:
    """Begins a transaction, and gives the call that commits it; else it is rolled back."""
    connection.execute(begin)
    try:
        yield lambda: connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
