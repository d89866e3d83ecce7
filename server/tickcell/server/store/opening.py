"""Opens a store's environment, after all that must be seen to first.

All of it happens under the guard: the premises, who else has the store open, the
examination after a power cut, our own entry, and only then LMDB.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from typing import TYPE_CHECKING, Any, Literal

import lmdb

from tickcell.server.store import entries, premises, recovery, schema, soundness
from tickcell.server.store.errors import (
    NotAStoreError,
    OtherDurabilityError,
    StoreDamagedError,
    StoreInUseError,
    StoreNoSpaceError,
    StoreStartError,
    means_no_room,
)
from tickcell.server.store.premises import DATA, LOCK
from tickcell.server.store.room import Room, used_pages

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from tickcell.server.store.entries import Found, HeldEntry

# The role of a process that serves sessions; the others only read.
SERVER = "server"

OnUnclean = Literal["refuse", "recover"]

# What LMDB would take for its lock file in the end: a header and 126 readers.
_LOCK_BYTES = 8192

# A power cut is not all that damages files, and LMDB can abort on damage. So up to this
# size, some 12,000 sessions and a quarter of a second, a store is examined at every start.
_ALWAYS_EXAMINED_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """An open environment with what belongs to it; `note` is for the operator, or None."""

    environment: lmdb.Environment
    entry: HeldEntry
    room: Room
    note: str | None

    def close(self) -> None:
        """Closes the environment, then removes this process's entry."""
        self.environment.close()
        self.room.close()
        self.entry.remove()


@dataclasses.dataclass(frozen=True, slots=True)
class Opening:
    """How a process wants a store opened; see `LmdbStore.open` for the fields.

    The defaults are for a process that only reads.
    """

    directory: pathlib.Path
    role: str
    map_size: int
    check: Callable[[bytes], Any]
    boot_id: str
    durability: str = "none"
    on_unclean: OnUnclean = "refuse"

    def open(self) -> Opened:
        """Opens the environment.

        Raises:
          StoreStartError: it cannot be opened; the class says why.
        """
        try:
            with entries.guard(self.directory):
                found = entries.find(self.directory, self.boot_id)
                entries.refuse_other_namespaces(self.directory, found)
                self._refuse_this_process(found)
                self._refuse_other_durability(found)
                note = self._examine(found)
                return self._open(found, note)
        except (OSError, lmdb.Error) as error:
            raise self._refusal(error) from error

    def _refuse_this_process(self, found: list[Found]) -> None:
        # LMDB cannot have one file open twice in a process: closing either would drop
        # the locks of both.
        for _, entry, state in found:
            if state == "live" and entry is not None and entry.pid == os.getpid():
                raise StoreInUseError(f"{self.directory}: this process has it open already.")

    def _refuse_other_durability(self, found: list[Found]) -> None:
        # What one server does not sync can, in a power cut, damage what another did.
        for _, entry, state in found:
            if (
                state == "live"
                and entry is not None
                and (self.role, entry.role) == (SERVER, SERVER)
                and self.durability != entry.durability
            ):
                raise OtherDurabilityError(
                    f"{self.directory}: pid {entry.pid} serves it with --durability "
                    f"{entry.durability}, got {self.durability}; all servers on a store need "
                    "the same."
                )

    def _examine(self, found: list[Found]) -> str | None:
        """Examines the store where that is called for, and returns the note for the operator."""
        states = {entry.state for entry in found}
        # Where a server is live, the first to start did this.
        if "live" in states or not premises.has_content(self.directory):
            return None
        is_unclean = "unclean" in states
        size = (self.directory / DATA).stat().st_size
        if not is_unclean and size > _ALWAYS_EXAMINED_BYTES:
            return None
        examined = soundness.examine(self.directory, self.check)
        if not examined.problems:
            unclean = "the store was not closed before the machine stopped"
            return f"{unclean}; {examined}" if is_unclean else None
        if self.on_unclean == "recover":
            return f"the store was damaged; {recovery.recover(self.directory, self.check)}"
        raise StoreDamagedError(
            f"{self.directory}: is damaged ({examined.problems[0]}); run "
            f"'tickcell store recover --store {self.directory}', which keeps what checks out and "
            "reports the rest."
        )

    def _open(self, found: list[Found], note: str | None) -> Opened:
        dead = [entry for entry in found if entry.state != "live"]
        _allocate_lock_file(self.directory / LOCK)
        with contextlib.ExitStack() as undo:
            # Before LMDB, so that no commit is on the disk and its entry is not.
            held = entries.add(self.directory, self._entry(), dead)
            undo.callback(held.remove)
            environment = self._open_environment()
            undo.callback(environment.close)
            _require_schema(self.directory, environment)
            entries.remove(dead[1:])
            entries.sync_directory(self.directory)
            environment.reader_check()
            room = Room(self.directory / DATA, self.map_size, environment.stat()["psize"])
            undo.callback(room.close)
            if self.role == SERVER and len(dead) == len(found):
                room.keep_if_possible(used_pages(environment.stat()))
            undo.pop_all()
        return Opened(environment, held, room, note)

    def _open_environment(self) -> lmdb.Environment:
        durable = self.durability == "power-loss"
        return lmdb.open(
            str(self.directory),
            map_size=self.map_size,
            sync=durable,
            metasync=durable,
            readahead=False,
            max_spare_txns=1,  # Spares the read transaction of each load half its cost.
            mode=0o600,
        )

    def _refusal(self, error: OSError | lmdb.Error) -> StoreStartError:
        """Says why the store cannot be opened."""
        if means_no_room(error):
            return StoreNoSpaceError(
                f"{self.directory}: the disk is full; make room on it and start again."
            )
        if isinstance(error, lmdb.LockError):
            return StoreInUseError(
                f"{self.directory}: its lock cannot be had ({error}); another program has it open."
            )
        if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError):
            return NotAStoreError(f"{self.directory}: {DATA} is not tickcell's: {error}.")
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
            return StoreDamagedError(
                f"{self.directory}: is damaged ({error}); run "
                f"'tickcell store recover --store {self.directory}'."
            )
        return StoreStartError(f"{self.directory}: cannot be opened: {error}.")

    def _entry(self) -> entries.Entry:
        return entries.Entry(
            role=self.role,
            pid=os.getpid(),
            pid_namespace=entries.pid_namespace(),
            boot_id=self.boot_id,
            durability=self.durability,
            start_time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )


def _allocate_lock_file(path: pathlib.Path) -> None:
    # LMDB maps this file sparse and writes to it as memory: on a full disk that is a
    # SIGBUS, later and in the middle of a read. Never while this process has the store
    # open, since closing any descriptor of a file drops the process's locks on it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _LOCK_BYTES)
    finally:
        os.close(descriptor)


def _require_schema(directory: pathlib.Path, environment: lmdb.Environment) -> None:
    """Marks a new store with the schema; refuses what is newer, or no store."""
    with environment.begin() as transaction:
        stored = transaction.get(schema.SCHEMA_KEY)
        is_new = not transaction.stat()["entries"]
    if not is_new:
        schema.require_readable(directory, stored)
        return
    # Only here, so that whoever reads waits for no writer. The guard is ours: nobody
    # else takes the store for new at the same time.
    with environment.begin(write=True) as transaction:
        transaction.put(schema.SCHEMA_KEY, schema.encode())
