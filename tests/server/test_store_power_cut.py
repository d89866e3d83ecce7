"""Power cuts: what was not synced is kept, dropped or torn, at any moment."""

from __future__ import annotations

import contextlib
import pathlib
import random
import threading
import time
from collections.abc import Iterator

import apsw
import pytest

from server import store_records
from server.recorded_disk import Mark, Recording, Sync
from tickcell.server.store import Applied, Change, Key, SqliteStore, StoreError, checking
from tickcell.server.store.durability import Durability
from tickcell.server.store.errors import StoreAwayError

# What a run of the tests takes, and what a proof does: seconds of commits, seconds
# between two upkeeps, and power cuts.
SHORT = (1.5, 0.3, 25)
LONG = (8.0, 1.0, 500)
SIZES = [pytest.param(*SHORT, id="short"), pytest.param(*LONG, id="long", marks=pytest.mark.slow)]

RATE = 1500
KEYS = [store_records.key(index) for index in range(40)]
AT_ONCE = 4
# Of a disk that loses what it likes, most images are whole all the same where there were few
# commits; one in so many never is.
_MOST_IMAGES = 400


@pytest.fixture
def recording() -> Iterator[Recording]:
    recorded = Recording()
    yield recorded
    recorded.close()


def record(
    recording: Recording,
    directory: pathlib.Path,
    durability: Durability,
    seconds: float,
    period_s: float,
    *,
    is_pinned: bool = False,
) -> None:
    """Commits for so long, with an upkeep each period, and records what reaches the disk.

    Commit N replaces some of the records, in turn, by version N. On a slow machine it goes
    on until the log was copied once, if that is possible.
    """
    store = SqliteStore.open(directory, durability=durability, disk=recording.disk)
    values = {key: store_records.encode(key, 0, 1300) for key in KEYS}
    store.commit([Change(key, None, value) for key, value in values.items()])
    store.upkeep()
    recording.begin(directory)
    reader = apsw.Connection(str(directory / "store.db"), vfs=recording.disk.vfs)
    if is_pinned:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM record").fetchall()
    stopping = threading.Event()
    upkeep = threading.Thread(target=_keep_up, args=(store, stopping, period_s))
    upkeep.start()
    number, begin = 0, time.monotonic()
    while time.monotonic() < begin + seconds or (not is_pinned and first_copy(recording) is None):
        time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
        number += 1
        changed = {key: store_records.encode(key, number, 1300) for key in keys_of(number)}
        changes = [Change(key, values[key], value) for key, value in changed.items()]
        # Before, since the cut may come when the commit is on the disk already.
        recording.mark("committing", number)
        while not all(isinstance(verdict, Applied) for verdict in store.commit(changes)):
            time.sleep(0.0005)
        store.make_durable()
        recording.mark("acknowledged", number)
        values.update(changed)
    stopping.set()
    upkeep.join()
    recording.end()
    reader.close()
    store.close()


def first_copy(recording: Recording) -> int | None:
    """Returns which event first put a copy of the log on the disk, if one did."""
    for place, event in enumerate(recording.events):
        if isinstance(event, Sync) and event.name == "store.db":
            return place
    return None


def _keep_up(store: SqliteStore, stopping: threading.Event, period_s: float) -> None:
    while not stopping.wait(period_s):
        # Locked by a commit; as in a server, the next time will do.
        with contextlib.suppress(StoreAwayError):
            store.upkeep()


def keys_of(number: int) -> list[Key]:
    """Returns which records commit `number` replaces."""
    return [KEYS[(number * AT_ONCE + offset) % len(KEYS)] for offset in range(AT_ONCE)]


def found_after(
    recording: Recording, source: pathlib.Path, directory: pathlib.Path, cut: int, seed: int
) -> int:
    """Opens the image of a power cut, and returns the commit up to which it holds everything."""
    directory.mkdir()
    for name, content in recording.image(cut, random.Random(seed)).items():
        (directory / name).write_bytes(content)
    (directory / "tickcell-store").write_text((source / "tickcell-store").read_text())
    store = SqliteStore.open(directory)
    found = dict(store.scan(None, None, 1000))
    store.close()
    connection = apsw.Connection(str(directory / "store.db"))
    assert checking.check_all(connection, store_records.problem) == (len(KEYS), [], [])
    connection.close()
    versions = {key: store_records.version(key, value) for key, value in found.items()}
    last = max(versions.values())
    expected = dict.fromkeys(KEYS, 0)
    for number in range(1, last + 1):
        expected.update(dict.fromkeys(keys_of(number), number))
    assert versions == expected
    return last


@pytest.mark.parametrize("is_pinned", [False, True], ids=["free", "pinned"])
@pytest.mark.parametrize(("seconds", "period_s", "cut_count"), SIZES)
def test_power_cut_under_process_crash_leaves_all_commits_up_to_one(
    recording: Recording,
    tmp_path: pathlib.Path,
    seconds: float,
    period_s: float,
    cut_count: int,
    is_pinned: bool,
) -> None:
    source = tmp_path / "source"
    record(recording, source, "process-crash", seconds, period_s, is_pinned=is_pinned)
    chance = random.Random(cut_count)
    times = {mark.number: mark.at_s for mark in recording.events if isinstance(mark, Mark)}
    losses_ms = []
    for index in range(cut_count):
        cut = chance.randrange(len(recording.events))
        acknowledged = last_acknowledged(recording, cut)
        last = found_after(recording, source, tmp_path / f"image-{index}", cut, index)
        lost_s = times[acknowledged] - times[last + 1] if last < acknowledged else 0.0
        losses_ms.append(1e3 * lost_s)
    losses_ms.sort()
    print(
        f"{len(times)} commits, {cut_count} power cuts: lost at most {losses_ms[-1]:.0f} ms, "
        f"half of them less than {losses_ms[len(losses_ms) // 2]:.0f} ms"
    )


@pytest.mark.parametrize(("seconds", "period_s", "cut_count"), SIZES)
def test_power_cut_under_power_loss_loses_nothing_acknowledged(
    recording: Recording, tmp_path: pathlib.Path, seconds: float, period_s: float, cut_count: int
) -> None:
    source = tmp_path / "source"
    record(recording, source, "power-loss", seconds, period_s)
    chance = random.Random(cut_count)
    for index in range(cut_count):
        cut = chance.randrange(len(recording.events))
        acknowledged = last_acknowledged(recording, cut)
        last = found_after(recording, source, tmp_path / f"image-{index}", cut, index)
        assert last >= acknowledged
    commit_count = last_acknowledged(recording)
    print(f"{commit_count} commits, {cut_count} power cuts: nothing acknowledged lost")


def test_disk_that_keeps_nothing_back_shows_that_the_images_can_fail(
    recording: Recording, tmp_path: pathlib.Path
) -> None:
    source = tmp_path / "source"
    record(recording, source, "process-crash", 1.5, 0.3)
    # As if no sync had ever been asked for, from when the log was copied first.
    copied = first_copy(recording)
    begin = sum(not isinstance(event, Sync) for event in recording.events[:copied])
    recording.events = [event for event in recording.events if not isinstance(event, Sync)]
    chance = random.Random(3)
    for index in range(_MOST_IMAGES):
        cut = chance.randrange(begin, len(recording.events))
        try:
            found_after(recording, source, tmp_path / f"image-{index}", cut, index)
        except (StoreError, AssertionError, ValueError):
            return
    pytest.fail(
        f"{_MOST_IMAGES} images of a disk that keeps nothing back had all that was promised"
    )


def test_commits_never_sync_in_their_own_thread(
    recording: Recording, tmp_path: pathlib.Path
) -> None:
    record(recording, tmp_path / "source", "process-crash", 2.0, 0.3)
    syncs = [event for event in recording.events if isinstance(event, Sync)]
    copies = [event for event in syncs if event.name == "store.db"]
    assert copies, "the log was never copied, so nothing was tried"
    assert threading.get_ident() not in {event.thread for event in syncs}


def last_acknowledged(recording: Recording, cut: int | None = None) -> int:
    """Returns the last commit that was acknowledged before event `cut`."""
    marks = [event for event in recording.events[:cut] if isinstance(event, Mark)]
    return max([mark.number for mark in marks if mark.what == "acknowledged"], default=0)
