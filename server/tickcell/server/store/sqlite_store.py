"""A store in one SQLite database, shared by the servers of one machine."""

from __future__ import annotations

import contextlib
import pathlib
import time
from typing import TYPE_CHECKING

import apsw

from tickcell.server.store import database, directory, opening
from tickcell.server.store.contract import (
    APPLIED,
    Change,
    Contended,
    Counts,
    Full,
    Key,
    Pin,
    Served,
    Sizes,
    Unknown,
    Verdict,
)
from tickcell.server.store.disk import Disk
from tickcell.server.store.errors import (
    StoreAwayError,
    StoreDamagedError,
    StoreError,
    StoreInUseError,
    StorePutBackError,
    damaged,
)
from tickcell.server.store.peers import Peers
from tickcell.server.store.records import Records
from tickcell.server.store.reserve import Reserve
from tickcell.server.store.store_clock import Monotonic, StoreClock
from tickcell.server.store.watch import Watch
from tickcell.server.store.write_ahead_log import WriteAheadLog

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from tickcell.server.store.durability import Durability

# The upkeep waits in its thread for another process's commit, of some microseconds.
_UPKEEP_WAIT_MS = 100

_DEFAULT_DISK = Disk()


# Of this process: each syncs by descriptors that it must not share with another.
_open_directories = set[pathlib.Path]()


class SqliteStore:
    """Keeps records in an SQLite database; see `EmbeddedStore` for the contract."""

    def __init__(self, opened: opening.Opened, disk: Disk, monotonic_ns: Monotonic) -> None:
        """Begins to look after what `open` has opened."""
        if opened.directory in _open_directories:
            raise StoreInUseError(f"{opened.directory}: this process has it open already.")
        self._opened = opened
        self._directory = opened.directory
        self._connection = opened.connection
        self._records = Records(self._directory, self._connection)
        self.id = opened.identity.id
        self.syncs = opened.identity.durability == "power-loss"
        self._broken: str | None = None
        self._is_put_back = False
        self._needs_room = False
        self._reserve = Reserve(self._directory)
        self._reserve.tend()
        self._clock = StoreClock(opened.identity.clock, monotonic_ns)
        self._peers = Peers(self._directory)
        with contextlib.ExitStack() as undo:
            self._upkeep_connection = database.connect(self._directory, disk.vfs)
            undo.callback(self._upkeep_connection.close)
            self._upkeep_connection.set_busy_timeout(_UPKEEP_WAIT_MS)
            self._log = WriteAheadLog(
                self._directory,
                disk,
                monotonic_ns,
                # Copied to a full disk, the log takes no more than the reserve leaves.
                long_bytes=self._reserve.whole_bytes,
                before_copying=self._make_room,
            )
            undo.callback(self._log.close)
            self._log.follow(self._connection)
            self._log.follow(self._upkeep_connection)
            # Not in a tick: the first commit to a log syncs. It can wait, though.
            with contextlib.suppress(apsw.BusyError, apsw.FullError):
                self._keep_clock()
            self._watch = Watch(self._directory)
            undo.pop_all()
        _open_directories.add(self._directory)
        self.note = "" if self._reserve.is_held else "the disk is full: new sessions are refused"

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        durability: Durability | None = None,
        allow_network_filesystem: bool = False,
        disk: Disk = _DEFAULT_DISK,
        monotonic_ns: Monotonic = time.monotonic_ns,
    ) -> SqliteStore:
        """Opens the store in a directory, and creates it where there is none.

        Args:
          path: the store's directory.
          durability: what an acknowledged commit must survive; None for what the store
            keeps, which is "process-crash" if it is new.
          allow_network_filesystem: opens it on a network file system all the same.
          disk: how to reach it.
          monotonic_ns: tells the time, by the kernel's monotonic clock.

        Raises:
          StoreStartError: it cannot be opened; the class says why.
          StoreDamagedError: it is not whole.
        """
        place = pathlib.Path(path)
        with opening.errors_of(place):
            opened = opening.open_to_serve(
                place,
                durability,
                disk.vfs,
                allow_network_filesystem=allow_network_filesystem,
            )
            try:
                return cls(opened, disk, monotonic_ns)
            except BaseException:
                opened.close()
                raise

    def now_ns(self) -> int:
        now_ns = self._clock.now_ns()
        if now_ns < self._clock.stands_ns:
            return now_ns
        with self._errors(), contextlib.suppress(apsw.BusyError):
            kept = database.read_identity(self._directory, self._connection).clock
            if not self._clock.is_ahead_of(kept):
                self._clock.follow(kept)
        return self._clock.now_ns()

    def load(self, keys: Sequence[Key]) -> list[bytes | None]:
        self._require_sound()
        with self._errors():
            if len(keys) == 1:
                return [self._records.find(keys[0])]
            with database.transaction(self._connection, "BEGIN"):
                return [self._records.find(key) for key in keys]

    def commit(self, changes: Sequence[Change]) -> list[Verdict]:
        if self._broken is not None or self._log.failure is not None:
            self._require_sound()
        if not changes:
            return []
        if not self._log.gate.acquire(blocking=False):
            return [Contended()] * len(changes)
        try:
            if len(changes) == 1:
                verdict = self._replace(changes[0])
                if verdict is not None:
                    return [verdict]
            return self._commit(changes)
        except apsw.BusyError:
            return [Contended()] * len(changes)
        except apsw.FullError as error:
            # Whoever is refused for that must not run out of time by it.
            self._clock.stand()
            if self._reserve.is_held or self._log.can_make_room():
                # There will be room in a moment.
                self._want_room()
                return [Contended()] * len(changes)
            with self._errors():
                self._reserve.note_used_up()
            return [Full(f"the disk is full ({error})")] * len(changes)
        except apsw.Error as error:
            raise self._log.judge(error) from error
        finally:
            self._log.gate.release()

    def make_durable(self) -> None:
        if self.syncs:
            self._require_sound()
            self._log.sync()

    def scan(self, owner: str | None, after: Key | None, limit: int) -> list[tuple[Key, bytes]]:
        self._require_sound()
        with self._errors():
            return self._records.scan(owner, after, limit)

    def counts(self, owner: str | None = None) -> Counts:
        self._require_sound()
        with self._errors():
            return database.read_counts(self._directory, self._connection, owner)

    def sizes(self) -> Sizes:
        # By name: who opens and closes the database, drops the process's locks on it.
        with self._errors():
            return Sizes(
                (self._directory / directory.DATABASE).stat().st_size,
                (self._directory / directory.LOG).stat().st_size,
            )

    def pinned(self) -> dict[Pin, int]:
        self._require_sound()
        with self._errors():
            return database.read_pinned(self._directory, self._connection)

    def announce(self, served: Served) -> None:
        self._peers.announce(served)

    def peers(self) -> list[Served]:
        return self._peers.served

    def upkeep(self) -> None:
        complaint = self._watch.complaint()
        if complaint is not None:
            # What is committed from here on would be gone.
            self._broken = str(damaged(self._directory, complaint))
        self._require_sound()
        first: StoreError | None = None
        for task in (self._keep_clock, self._log.sync, self._reserve.tend, self._log.report):
            try:
                with self._errors():
                    task()
            except StoreError as error:
                first = first or error
        if first is not None:
            raise first

    def close(self) -> None:
        try:
            # The row of a server that cannot write it away is aged by the others.
            with contextlib.suppress(apsw.Error):
                self._peers.leave(self._upkeep_connection)
            if self._log.failure is None:
                self._log.sync()
        finally:
            # The last connection of all copies the log and removes it.
            self._log.close()
            self._upkeep_connection.close()
            self._opened.close()
            _open_directories.discard(self._directory)

    def _replace(self, change: Change) -> Verdict | None:
        """Commits a lone step: one statement is a transaction by itself, in half the time.

        Returns:
          What became of it; None where nothing did, and why is still to be seen.
        """
        key, expected, replacement, was_live, is_live, pin = change
        if expected is None or replacement is None or was_live != is_live or pin is not None:
            return None
        try:
            return APPLIED if self._records.replace(key, expected, replacement) else None
        except (apsw.BusyError, apsw.FullError):
            raise
        except apsw.Error as error:
            return Unknown(str(self._log.judge(error)))

    def _commit(self, changes: Sequence[Change]) -> list[Verdict]:
        with database.transaction(self._connection, "BEGIN IMMEDIATE") as commit:
            verdicts = self._records.apply_all(changes, may_add=self._reserve.is_held)
            try:
                commit()
            except (apsw.BusyError, apsw.FullError):
                raise
            except apsw.Error as error:
                return [Unknown(str(self._log.judge(error)))] * len(changes)
        return verdicts

    def _keep_clock(self) -> None:
        connection = self._upkeep_connection
        is_used_up = self._reserve.is_used_up()
        if is_used_up:
            self._clock.stand()
        try:
            with database.transaction(connection, "BEGIN IMMEDIATE") as commit:
                identity = database.read_identity(self._directory, connection)
                if identity.id != self.id or self._clock.is_ahead_of(identity.clock):
                    self._is_put_back = True
                    self.id = identity.id
                    self._clock.begin(identity.clock)
                self._clock.follow(identity.clock)
                kept = self._clock.next()
                database.write_identity(connection, identity._replace(clock=kept))
                others = self._peers.renew(connection, kept.now_ns)
                commit()
        except apsw.FullError:
            self._want_room()
            raise
        self._clock.confirm(kept)
        self._peers.served = others
        if not is_used_up:
            self._clock.go_on()
        if self._is_put_back:
            self._is_put_back = False
            raise StorePutBackError(
                f"{self._directory}: was put back to an older state, since its clock is behind; "
                "later commits are gone, and clients get STEP_GAP."
            )

    def _want_room(self) -> None:
        self._needs_room = True
        self._log.want_copied()

    def _make_room(self) -> None:
        if self._needs_room:
            self._needs_room = False
            self._reserve.give_up()

    def _require_sound(self) -> None:
        if self._broken is not None:
            raise StoreDamagedError(self._broken)
        if self._log.failure is not None:
            raise StoreAwayError(self._log.failure)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises what SQLite and the system raise as errors of the store."""
        try:
            yield
        except (apsw.Error, OSError) as error:
            raise self._log.judge(error) from error
