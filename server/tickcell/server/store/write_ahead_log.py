"""Keeps SQLite's log short and synced, in a thread, so that no commit waits for the disk.

A commit appends to the log. A checkpoint copies the log into the database; once all
of it is copied, the next writer begins the log again from its start, and syncs it.
Three things must be seen to:

* Beside a busy writer a checkpoint never finds all copied, and the log would grow
  without end. So the last of it is copied while we hold the write lock.
* The writer that begins the log anew must not be a tick's. So it is ours, at once.
* A process that reads an old state of the store keeps all since from being copied,
  and a checkpoint then syncs nothing. So the log is synced by itself, each second.
"""

from __future__ import annotations

import contextlib
import pathlib
import threading
from typing import TYPE_CHECKING

import apsw

from tickcell.server.store import lock_table
from tickcell.server.store.database import connect, transaction
from tickcell.server.store.directory import DATABASE, INDEX, LOG
from tickcell.server.store.disk import Disk, descriptor_of
from tickcell.server.store.errors import (
    StoreAwayError,
    StoreError,
    StorePinnedError,
    means_failed_sync,
    typed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tickcell.server.store.store_clock import Monotonic

_FRAME_BYTES = 4096 + 24

# So few are begun anew in vain.
_FEW_FRAMES = 16

# For a writer of another process to be done; a commit takes some microseconds.
_WRITER_WAIT_MS = 5

# Between two attempts while a reader, or another server's checkpoint, is in the way.
_PAUSE_S = 0.1

# A backup of a large store reads for some seconds; what reads longer is forgotten or stopped.
_LONGEST_READ_NS = 10_000_000_000

# Bytes of the index file that SQLite's processes lock: writer, checkpoint, recovery, readers.
_LOCKED_BYTES = range(120, 128)


class WriteAheadLog:
    """The log of a store that this process has open.

    Attributes:
      gate: held while the log is begun anew. Who commits in this process takes it
        without waiting; another process is kept out by SQLite's own lock.
      failure: set for good when the disk refused a sync: it may have dropped what
        another try would then take for synced.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        disk: Disk,
        monotonic_ns: Monotonic,
        long_bytes: int,
        before_copying: Callable[[], None],
    ) -> None:
        """Begins to look after the log, for as long as a connection of ours is open.

        Args:
          directory: the store's, absolute and without symbolic links.
          disk: how to reach it.
          monotonic_ns: tells the time.
          long_bytes: from which size on it is copied; a single commit adds 4 KB or more.
          before_copying: called in the thread before each checkpoint.
        """
        self.gate = threading.Lock()
        self.failure: str | None = None
        self._directory = directory
        self._sync = disk.sync
        self._monotonic_ns = monotonic_ns
        self._long_frames = long_bytes // _FRAME_BYTES
        self._before_copying = before_copying
        self._has_room = True
        self._database_descriptor = descriptor_of(directory / DATABASE)
        self._log_descriptor = descriptor_of(directory / LOG)
        self._writer = connect(directory, disk.vfs)
        self._copier = connect(directory, disk.vfs)
        self._writer.set_busy_timeout(_WRITER_WAIT_MS)
        # A connection that has never read does not know of a log, and copies nothing.
        self._copier.execute("SELECT 1 FROM store").fetchall()
        self._frames = 0
        self.follow(self._writer)
        self._trouble: StoreError | None = None
        # Of this server or another: how often the log was begun anew, and how far it was copied.
        self._progress: tuple[object, int] = (None, -1)
        self._stuck_since_ns: int | None = None
        # From the first of the attempts in vain to the last one.
        self._stuck_ns = 0
        self._suspects: set[int] | None = None
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tickcell-checkpoints", daemon=True)
        self._thread.start()

    def follow(self, connection: apsw.Connection) -> None:
        """Watches the log grow by a connection's commits."""
        connection.set_wal_hook(self._grew)

    def want_copied(self) -> None:
        """Has the log copied, and begun anew, soon."""
        self._wanted.set()

    def can_make_room(self) -> bool:
        """Says whether commits would find room if the log was begun anew."""
        return self._has_room and self._frames > _FEW_FRAMES

    def sync(self) -> None:
        """Puts the log on the disk, with all that any process has committed.

        Raises:
          StoreAwayError: the disk refused, now or before.
        """
        self._sync_file(self._log_descriptor)

    def report(self) -> None:
        """Raises what went wrong with the last checkpoint, or whom the log waits for."""
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble
        is_long = self._frames > self._long_frames
        # Not by the time of now: since the last attempt, another server may have begun it anew.
        if not is_long or self._stuck_ns < _LONGEST_READ_NS:
            self._suspects = None
            return
        holders = {
            held.pid
            for held in lock_table.locks_on(self._directory / INDEX)
            if held.start in _LOCKED_BYTES
        }
        # Servers come and go there; who stays is in the way.
        self._suspects = holders if self._suspects is None else self._suspects & holders
        names = "; ".join(map(lock_table.name_of, sorted(self._suspects))) or "a process"
        raise StorePinnedError(
            f"{self._directory}: a program has kept one read transaction open for more than "
            f"{_LONGEST_READ_NS // 1_000_000_000} s, so its log grows, to "
            f"{(self._directory / LOG).stat().st_size >> 20} MiB by now; end that program "
            f"({names})."
        )

    def judge(self, error: Exception) -> StoreError:
        """Returns what an error means; a refused sync is the end of all acknowledging."""
        if isinstance(error, StoreError):
            return error
        if not isinstance(error, apsw.Error):
            return StoreAwayError(f"{self._directory}: {error}.")
        return self._fail(error) if means_failed_sync(error) else typed(self._directory, error)

    def close(self) -> None:
        """Ends the thread and its connections."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join()
        self._copier.close()
        self._writer.close()

    def _grew(self, _: apsw.Connection, __: str, frames: int) -> int:
        self._frames = frames
        if frames > self._long_frames:
            self._wanted.set()
        return apsw.SQLITE_OK

    def _run(self) -> None:
        self._wanted.wait()
        # After each clear, since `close` sets this first.
        while not self._stopping.is_set():
            is_done = False
            try:
                self._before_copying()
                is_done = self._copy()
                self._has_room = True
            except (StoreError, OSError, apsw.Error) as error:
                self._has_room = not isinstance(error, apsw.FullError)
                self._trouble = self.judge(error)
            if not is_done:
                self._stopping.wait(_PAUSE_S)
            # Also what commits wanted while the log was still long.
            self._wanted.clear()
            if not self._stopping.is_set():
                self._wanted.wait()

    def _copy(self) -> bool:
        """Copies the log and begins it anew; returns whether that was possible."""
        log_count, copied_frames = self._progress
        is_done = False
        with contextlib.ExitStack() as held:
            try:
                # As long as the writer reads, nobody begins the log anew behind our back.
                with transaction(self._writer, "BEGIN"):
                    ((log_count,),) = self._writer.execute("SELECT log_count FROM store").fetchall()
                    self._copier.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                    # Now, so that little is left to sync while all others are kept out.
                    self._sync_file(self._database_descriptor)
                    held.enter_context(self.gate)
                with transaction(self._writer, "BEGIN IMMEDIATE"):
                    frames, copied_frames = self._copier.wal_checkpoint(
                        mode=apsw.SQLITE_CHECKPOINT_PASSIVE
                    )
                if frames == copied_frames:
                    is_done = self._begin_anew(frames)
            except apsw.BusyError:
                pass  # Another server is at it, or a process stands still in the middle of it.
        if is_done:
            self._stuck_since_ns = None
            self._stuck_ns = 0
        else:
            now_ns = self._monotonic_ns()
            if self._stuck_since_ns is None or (log_count, copied_frames) != self._progress:
                self._stuck_since_ns = now_ns
            self._stuck_ns = now_ns - self._stuck_since_ns
        self._progress = log_count, copied_frames
        return is_done

    def _begin_anew(self, frames: int) -> bool:
        """Commits something, so that the log begins anew with it; returns whether it did."""
        with transaction(self._writer, "BEGIN IMMEDIATE") as commit:
            # Another value: SQLite writes nothing for the same.
            self._writer.execute("UPDATE store SET log_count = log_count + 1")
            commit()
        return self._frames < frames

    def _sync_file(self, descriptor: int) -> None:
        if self.failure is not None:
            raise StoreAwayError(self.failure)
        try:
            self._sync(descriptor)
        except OSError as error:
            raise self._fail(error) from error

    def _fail(self, error: Exception) -> StoreError:
        self.failure = (
            f"{self._directory}: a sync failed ({error}), so nothing more is "
            "acknowledged; check the disk, and restart the server."
        )
        return StoreAwayError(self.failure)
