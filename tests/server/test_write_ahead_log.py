"""The log stays short at any rate, and who keeps it from that is named."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import signal
import threading

import pytest

from server import store_records
from server.recorded_disk import Recording
from server.store_process import StoreProcess
from tickcell.server.store import Applied, Change, SqliteStore, StoreAwayError, Unknown
from tickcell.server.store.database import connect
from tickcell.server.store.disk import Disk

MOST_BYTES = 64 << 20
# More than any machine does.
FULL_RATE = 10_000_000


@pytest.mark.parametrize("server_count", [1, 2])
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_log_stays_short_at_full_rate(
    tmp_path: pathlib.Path, server_count: int, seconds: int
) -> None:
    processes = [StoreProcess(tmp_path) for _ in range(server_count)]
    try:
        assert [process.ask("open") for process in processes] == ["open"] * server_count
        for process in processes:
            process.tell(f"pace {FULL_RATE} {seconds}")
        for process in processes:
            found = json.loads(process.answer())
            print(found)
            assert found["log_bytes"] < MOST_BYTES
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
def test_process_that_reads_one_state_for_long_is_named_until_it_ends(
    tmp_path: pathlib.Path, end: signal.Signals
) -> None:
    with StoreProcess(tmp_path) as server, StoreProcess(tmp_path) as reader:
        assert server.ask("open") == "open"
        server.ask("set 000000 1")
        reader.tell("read")
        reader.wait_until_stopped()
        server.ask("increment 000000 12000")
        assert server.ask("upkeep") == "done"
        server.ask("pass 11")
        # Each upkeep commits, and so wants an attempt, of which a later one tells.
        answers = iter(lambda: server.ask("upkeep"), "")
        next(answer for answer in answers if answer != "done")
        for _ in range(2):
            answer = server.ask("upkeep")
            assert answer.startswith("StorePinnedError")
            assert f"pid {reader.pid}" in answer
            assert f"pid {server.pid}" not in answer
        before = (tmp_path / "store.db-wal").stat().st_size
        assert before > 12000 * 4096
        count = log_count(tmp_path)
        reader.signal(end)
        if end == signal.SIGCONT:
            assert reader.answer() == "read"
            reader.kill()
        # The log is begun anew from one attempt to the next. Else these commits would make
        # it 32 MB longer; until the attempt, some more are added.
        while log_count(tmp_path) == count:
            server.ask("increment 000000 1")
        assert server.ask("upkeep") == "done"
        server.ask("increment 000000 8000")
        assert (tmp_path / "store.db-wal").stat().st_size <= before + (16 << 20)


def log_count(directory: pathlib.Path) -> bytes:
    """Returns which log it is that a store has, as its header says.

    From the file, since whoever asks SQLite reads the log, and then it cannot be begun anew.
    """
    with (directory / "store.db-wal").open("rb") as log:
        # Behind magic number, version and page size: how often it was checkpointed whole.
        return log.read(16)[12:]


def test_log_that_another_server_has_begun_anew_meanwhile_waits_for_nobody(
    tmp_path: pathlib.Path,
) -> None:
    now_ns = 0
    has_failed, may_go_on = threading.Event(), threading.Event()

    def monotonic_ns() -> int:
        if threading.current_thread().name == "tickcell-checkpoints":
            has_failed.set()
            may_go_on.wait()
        return now_ns

    store = SqliteStore.open(tmp_path, monotonic_ns=monotonic_ns)
    change = store_records.step(store_records.key(0), None)
    assert store.commit([change]) == [Applied()]

    def make_long_beside_a_reader() -> None:
        """Commits until an attempt to copy has failed, since a process reads an old state."""
        nonlocal change
        has_failed.clear()
        with StoreProcess(tmp_path) as reader:
            assert reader.ask("hold") == "holding"
            while not has_failed.is_set():
                following = store_records.step(change.key, change.replacement)
                # Contended: while an attempt is made.
                if store.commit([following]) == [Applied()]:
                    change = following

    make_long_beside_a_reader()
    may_go_on.set()
    with StoreProcess(tmp_path) as other:
        assert other.ask("open") == "open"
        other.ask("set 000001 1")
        count = log_count_of(store)
        while log_count_of(store) == count:
            other.ask("increment 000001 1000")
    now_ns += 20_000_000_000
    may_go_on.clear()
    # The second attempt in vain in 20 s, but there was another log in between.
    make_long_beside_a_reader()
    store.upkeep()
    may_go_on.set()
    store.close()


def log_count_of(store: SqliteStore) -> object:
    """Returns how often the log was begun anew, by whichever server."""
    return store._connection.execute("SELECT log_count FROM store").fetchall()


def test_refused_sync_ends_acknowledging_until_a_restart(tmp_path: pathlib.Path) -> None:
    refused = False

    def sync(descriptor: int) -> None:
        if refused:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)

    key = store_records.key(0)
    store = SqliteStore.open(tmp_path, disk=Disk(sync=sync))
    change = store_records.step(key, None)
    assert store.commit([change]) == [Applied()]
    refused = True
    with pytest.raises(StoreAwayError, match="a sync failed"):
        store.upkeep()
    # Another try would succeed, though the pages may be gone.
    refused = False
    for use in (
        store.upkeep,
        lambda: store.load([key]),
        lambda: store.commit([store_records.step(key, change.replacement)]),
        lambda: store.scan(None, None, 1),
    ):
        with pytest.raises(StoreAwayError, match="a sync failed"):
            use()
    store.close()
    again = SqliteStore.open(tmp_path)
    assert again.load([key]) == [change.replacement]
    again.close()


def stepped_once(
    directory: pathlib.Path, recording: Recording, count: int
) -> tuple[SqliteStore, list[Change], list[Change]]:
    """Opens a store and commits one step of some sessions.

    Returns:
      The store, those steps, and the ones that follow.
    """
    store = SqliteStore.open(directory, disk=recording.disk)
    first = [store_records.step(store_records.key(index), None) for index in range(count)]
    assert store.commit(first) == [Applied()] * count
    return store, first, [store_records.step(each.key, each.replacement) for each in first]


@pytest.mark.parametrize("count", [1, 3])
def test_commit_in_which_the_disk_fails_is_unknown_and_ends_with_it(
    tmp_path: pathlib.Path, count: int
) -> None:
    recording = Recording()
    store, first, second = stepped_once(tmp_path, recording, count)
    keys = [change.key for change in first]
    recording.refuses_writes = True
    assert [type(verdict) for verdict in store.commit(second)] == [Unknown] * count
    assert store.load(keys) == [change.replacement for change in first]
    recording.refuses_writes = False
    assert store.commit(second) == [Applied()] * count
    store.close()
    recording.close()


@pytest.mark.parametrize("count", [1, 3])
def test_sync_refused_within_a_commit_ends_acknowledging_too(
    tmp_path: pathlib.Path, count: int
) -> None:
    recording = Recording()
    store, first, second = stepped_once(tmp_path, recording, count)
    keys = [change.key for change in first]
    # Once all is copied, the next commit begins the log anew, and syncs it itself.
    copier = connect(tmp_path, recording.disk.vfs)
    copier.execute("SELECT * FROM store").fetchall()
    frames, copied_frames = copier.wal_checkpoint()
    assert frames == copied_frames > 0
    copier.close()
    recording.refuses_syncs = True
    assert [type(verdict) for verdict in store.commit(second)] == [Unknown] * count
    # Another try would succeed, though the pages may be gone.
    recording.refuses_syncs = False
    with pytest.raises(StoreAwayError, match="a sync failed"):
        store.commit(second)
    store.close()
    again = SqliteStore.open(tmp_path)
    # Unknown: either all of it is there or nothing.
    assert again.load(keys) in (
        [change.replacement for change in first],
        [change.replacement for change in second],
    )
    again.close()
    recording.close()


def test_answer_waits_for_the_disk_only_where_a_power_cut_must_be_survived(
    tmp_path: pathlib.Path,
) -> None:
    synced = 0

    def sync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        os.fdatasync(descriptor)

    crash = SqliteStore.open(tmp_path / "crash", disk=Disk(sync=sync))
    power = SqliteStore.open(tmp_path / "power", durability="power-loss", disk=Disk(sync=sync))
    for store, expected in ((crash, 0), (power, 1)):
        synced = 0
        store.commit([store_records.step(store_records.key(0), None)])
        assert synced == 0
        assert store.syncs == bool(expected)
        store.make_durable()
        assert synced == expected
        store.close()


def test_upkeep_syncs_the_log_though_another_process_has_the_store_locked(
    tmp_path: pathlib.Path,
) -> None:
    synced = list[str]()

    def sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        os.fdatasync(descriptor)

    store = SqliteStore.open(tmp_path, disk=Disk(sync=sync))
    with StoreProcess(tmp_path) as writer:
        assert writer.ask("open") == "open"
        writer.tell("begin")
        writer.wait_until_stopped()
        with pytest.raises(StoreAwayError, match="locked"):
            store.upkeep()
        assert synced == [str(tmp_path / "store.db-wal")]
    store.close()


def test_server_makes_what_another_has_committed_durable_before_it_shows_it(
    tmp_path: pathlib.Path,
) -> None:
    """What is synced is the file, whoever wrote it: the power cut's tests hold it to that."""
    synced = list[str]()

    def sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        os.fdatasync(descriptor)

    store = SqliteStore.open(tmp_path, durability="power-loss", disk=Disk(sync=sync))
    with StoreProcess(tmp_path) as other:
        assert other.ask("open") == "open"
        other.ask("set 000000 1")
        synced.clear()
        assert store.load([store_records.key(0)]) != [None]
        store.make_durable()
        assert synced == [str(tmp_path / "store.db-wal")]
    store.close()
