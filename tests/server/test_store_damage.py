"""Damaged files: what was hit is refused, and nothing else; never an empty or a wrong one."""

from __future__ import annotations

import pathlib
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import apsw
import pytest

from server import store_records
from server.store_process import StoreProcess
from tickcell.server.store import (
    Applied,
    Change,
    Key,
    SqliteStore,
    StoreDamagedError,
    StoreStartError,
    checking,
)

SESSION_COUNT = 400


class Sound(NamedTuple):
    """A closed store, and the pages of its index."""

    directory: pathlib.Path
    content: bytes
    index_pages: list[int]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    directory = tmp_path_factory.mktemp("sound") / "store"
    store = SqliteStore.open(directory)
    for index in range(SESSION_COUNT):
        # Versions tell which session a record is of, beside its checksum.
        key = store_records.key(index)
        record = store_records.encode(key, index, 400 + 5 * index)
        assert store.commit([store_records.step(key, None)._replace(replacement=record)]) == [
            Applied()
        ]
    store.close()
    connection = apsw.Connection(str(directory / "store.db"))
    pages = connection.execute(
        "SELECT pageno FROM dbstat WHERE name LIKE 'sqlite_autoindex%' ORDER BY path"
    )
    index_pages = [int(str(pageno)) for (pageno,) in pages.fetchall()]
    connection.close()
    return Sound(directory, (directory / "store.db").read_bytes(), index_pages)


def outcomes(directory: pathlib.Path) -> Counter[str]:
    """Opens a store, asks for each session, steps it, and says what came of each."""
    try:
        store = SqliteStore.open(directory)
    except (StoreDamagedError, StoreStartError):
        return Counter({"start refused": SESSION_COUNT})
    found: Counter[str] = Counter()
    try:
        for index in range(SESSION_COUNT):
            found[_outcome(store, index)] += 1
    finally:
        store.close()
    return found


def _outcome(store: SqliteStore, index: int) -> str:
    key = store_records.key(index)
    try:
        (record,) = store.load([key])
        if record is None:
            return "unknown"
        if store_records.problem(key, record) is not None:
            return "record damaged"
        assert store_records.version(key, record) == index
        change = store_records.step(key, record)
        assert store.commit([change]) == [Applied()]
        assert store.load([key]) == [change.replacement]
    except StoreDamagedError:
        return "store damaged"
    return "right"


@pytest.mark.lengthy
@pytest.mark.parametrize("flip_count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_flipped_bit_harms_its_page_at_most(
    sound: Sound, tmp_path: pathlib.Path, flip_count: int
) -> None:
    chance = random.Random(flip_count)
    total: Counter[str] = Counter()
    for flip in range(flip_count):
        content = bytearray(sound.content)
        page = chance.choice(sound.index_pages) - 1 if flip % 2 else None
        offset = chance.randrange(len(content)) if page is None else chance.randrange(4096)
        content[(page or 0) * 4096 + offset] ^= 1 << chance.randrange(8)
        directory = _copy(sound, tmp_path / "store", bytes(content))
        found = outcomes(directory)
        assert sum(found.values()) == SESSION_COUNT
        # Who is not found lies on the page that was hit, of which the index has the most.
        assert found["unknown"] <= 300, f"flip {flip}"
        total += found
        shutil.rmtree(directory)
    print(dict(total))
    assert total["right"] > 0


@pytest.mark.parametrize("cut_count", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_truncated_store_is_refused_or_has_lost_its_last_page(
    sound: Sound, tmp_path: pathlib.Path, cut_count: int
) -> None:
    chance = random.Random(cut_count)
    lengths = [0, 1, 100, 4096, *(chance.randrange(len(sound.content)) for _ in range(cut_count))]
    for length in lengths:
        directory = _copy(sound, tmp_path / "store", sound.content[:length])
        found = outcomes(directory)
        # Where the last page is there in part, so are its sessions.
        is_cut_in_last_page = len(sound.content) - length < 4096
        assert found["start refused"] == SESSION_COUNT or is_cut_in_last_page, f"length {length}"
        assert not found["unknown"]
        shutil.rmtree(directory)


def test_store_whose_index_has_lost_its_entries_is_refused(
    sound: Sound, tmp_path: pathlib.Path
) -> None:
    content = bytearray(sound.content)
    # The number of a page's cells is in its bytes 3 and 4: all but one seem never to have been.
    cells = slice(4096 * (sound.index_pages[-1] - 1) + 3, 4096 * (sound.index_pages[-1] - 1) + 5)
    assert int.from_bytes(content[cells]) > 1
    content[cells] = (1).to_bytes(2)
    directory = _copy(sound, tmp_path / "store", bytes(content))
    with pytest.raises(StoreDamagedError, match="number of its records"):
        SqliteStore.open(directory)


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_store_without_its_database_is_refused_with_the_way_out(
    sound: Sound, tmp_path: pathlib.Path, what: str
) -> None:
    directory = _copy(sound, tmp_path / "store", b"")
    if what == "missing":
        (directory / "store.db").unlink()
    with pytest.raises(StoreDamagedError, match=f"is {what}.*tickcell store restore --store"):
        SqliteStore.open(directory)
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        {"lock", "tickcell-store", "reserve"} | ({"store.db"} if what == "empty" else set())
    )


def test_database_of_another_store_is_refused(sound: Sound, tmp_path: pathlib.Path) -> None:
    SqliteStore.open(tmp_path / "store").close()
    shutil.copy(sound.directory / "store.db", tmp_path / "store" / "store.db")
    with pytest.raises(StoreDamagedError, match="does not match its tickcell-store"):
        SqliteStore.open(tmp_path / "store")


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[StoreProcess]:
    with StoreProcess(tmp_path / "store") as process:
        assert process.ask("open") == "open"
        assert process.ask("set 000000 1") == "Applied"
        yield process


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm", "tickcell-store"])
@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_file_that_is_removed_or_replaced_under_a_server_ends_acknowledging(
    server: StoreProcess, tmp_path: pathlib.Path, name: str, what: str
) -> None:
    path = tmp_path / "store" / name
    if what == "removed":
        path.unlink()
    else:
        copy = tmp_path / "copy"
        shutil.copy(path, copy)
        copy.rename(path)
    if (name, what) == ("tickcell-store", "replaced"):
        # The same words: it is as good as before.
        assert server.ask("upkeep") == "done"
        return
    answer = server.ask("upkeep")
    assert answer.startswith("StoreDamagedError")
    assert f"{name} was {what} under the server" in answer
    assert server.ask("set 000000 2").startswith("StoreDamagedError")
    assert server.ask("get 000000").startswith("StoreDamagedError")


def test_database_emptied_under_a_server_ends_acknowledging(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    # In another process: here nobody has it open.
    (tmp_path / "store" / "store.db").open("wb").close()
    assert "store.db was emptied under the server" in server.ask("upkeep")
    assert server.ask("set 000000 2").startswith("StoreDamagedError")


def test_server_whose_database_was_replaced_leaves_the_new_ones_log_alone(
    server: StoreProcess, tmp_path: pathlib.Path
) -> None:
    store = tmp_path / "store"
    (tmp_path / "old").mkdir()
    for path in store.iterdir():
        path.rename(tmp_path / "old" / path.name)
    with StoreProcess(store) as second:
        assert second.ask("open") == "open"
        assert second.ask("set 000001 5") == "Applied"
        server.ask("close")
        assert (store / "store.db-wal").exists()
        second.kill()
    with StoreProcess(store) as third:
        assert third.ask("open") == "open"
        assert third.ask("get 000001") == "5"


def test_page_damaged_while_serving_is_no_wrong_record(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "store"
    with StoreProcess(directory) as server:
        server.ask("open")
        server.ask("add 2000")
        server.ask("close")
        server.ask("open")
        # All pages but the first few, which the server needs for itself.
        script = (
            "import sys; f = open(sys.argv[1], 'r+b'); f.seek(20 * 4096); "
            "f.write(bytes(int(sys.argv[2]) - 20 * 4096))"
        )
        size = (directory / "store.db").stat().st_size
        subprocess.run(
            [sys.executable, "-c", script, str(directory / "store.db"), str(size)], check=True
        )
        answers = {server.ask(f"get {index:06}").split(":")[0] for index in range(0, 2000, 10)}
        assert "StoreDamagedError" in answers
        assert answers <= {"1", "StoreDamagedError"}


@pytest.mark.parametrize("count", [1, 2])
def test_row_whose_value_is_of_another_type_is_damage_and_no_loss(
    tmp_path: pathlib.Path, count: int
) -> None:
    keys = [Key("", f"s{index}") for index in range(count)]
    store = SqliteStore.open(tmp_path / "store")
    store.commit([Change(key, None, b"before", was_live=False) for key in keys])
    # From another process: two SQLite libraries in one would drop each other's locks.
    code = (
        "import sqlite3, sys; store = sqlite3.connect(sys.argv[1]); "
        "store.execute('UPDATE record SET value = CAST(value AS TEXT)'); store.commit()"
    )
    path = tmp_path / "store" / "store.db"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert store.load(keys) == [b"before"] * count
    with pytest.raises(StoreDamagedError, match="cannot be replaced"):
        store.commit([Change(key, b"before", b"after") for key in keys])
    store.close()


def test_check_finds_what_was_flipped(sound: Sound, tmp_path: pathlib.Path) -> None:
    chance = random.Random(7)
    for _ in range(20):
        content = bytearray(sound.content)
        # In the middle of a record: its key and value are covered by its checksum.
        content[content.rindex(b"\x07\x00\x00\x00\x00\x00\x00\x00") + 3] ^= 1 << chance.randrange(8)
        directory = _copy(sound, tmp_path / "store", bytes(content))
        connection = apsw.Connection(str(directory / "store.db"))
        checked = checking.check_all(connection, store_records.problem)
        connection.close()
        assert checked.record_count == SESSION_COUNT
        assert checked.record_problems == ["000007: the checksum does not match"]
        shutil.rmtree(directory)


def _copy(sound: Sound, directory: pathlib.Path, content: bytes) -> pathlib.Path:
    shutil.copytree(sound.directory, directory)
    (directory / "store.db").write_bytes(content)
    return directory
