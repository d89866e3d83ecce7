"""The servers of a store know what the others serve, and forget who keeps it up no more."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import apsw
import pytest

from tickcell.server.store import Pin, Served, SqliteStore, StoreDamagedError
from tickcell.server.store.peers import Peers

OLD = Pin("drive", "1", 64 * "1")
NEW = Pin("drive", "2", 64 * "2")
BOTH = Served(frozenset([OLD, NEW]), frozenset([NEW]))
ONE = Served(frozenset([OLD]), frozenset([OLD]))
SECOND_NS = 1_000_000_000

Server = Callable[[], Peers]


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    """Of a store that is there, and closed."""
    SqliteStore.open(tmp_path / "store").close()
    return tmp_path / "store"


@pytest.fixture
def connection(directory: pathlib.Path) -> Iterator[apsw.Connection]:
    with contextlib.closing(apsw.Connection(str(directory / "store.db"))) as opened:
        yield opened


@pytest.fixture
def server(directory: pathlib.Path) -> Server:
    """Makes another server of the store."""
    return lambda: Peers(directory)


def test_each_server_hears_what_the_others_announce(
    connection: apsw.Connection, server: Server
) -> None:
    first, second, third = server(), server(), server()
    first.announce(ONE)
    second.announce(BOTH)
    assert first.renew(connection, SECOND_NS) == []
    assert second.renew(connection, SECOND_NS) == [ONE]
    assert {*third.renew(connection, SECOND_NS)} == {ONE, BOTH}
    assert first.renew(connection, SECOND_NS) == [BOTH]


def test_what_is_announced_last_counts(connection: apsw.Connection, server: Server) -> None:
    first, second = server(), server()
    for served in (ONE, BOTH):
        first.announce(served)
        first.renew(connection, SECOND_NS)
    assert second.renew(connection, SECOND_NS) == [BOTH]


def test_who_announces_nothing_is_no_server(connection: apsw.Connection, server: Server) -> None:
    server().renew(connection, SECOND_NS)
    assert server().renew(connection, SECOND_NS) == []


def test_server_that_keeps_the_store_up_no_more_is_forgotten(
    connection: apsw.Connection, server: Server
) -> None:
    gone, here, asking = server(), server(), server()
    for each in (gone, here):
        each.announce(ONE)
        each.renew(connection, SECOND_NS)
    for second in range(2, 6):
        here.renew(connection, second * SECOND_NS)
        assert len(asking.renew(connection, second * SECOND_NS)) == 2
    here.renew(connection, 7 * SECOND_NS)
    assert asking.renew(connection, 7 * SECOND_NS) == [ONE]


def test_server_of_a_store_that_was_put_back_is_forgotten(
    connection: apsw.Connection, server: Server
) -> None:
    later = server()
    later.announce(ONE)
    later.renew(connection, 100 * SECOND_NS)
    assert server().renew(connection, SECOND_NS) == []


def test_server_that_leaves_is_forgotten_at_once(
    connection: apsw.Connection, server: Server
) -> None:
    first = server()
    first.announce(ONE)
    first.renew(connection, SECOND_NS)
    first.leave(connection)
    assert server().renew(connection, SECOND_NS) == []


@pytest.mark.parametrize("served", ["", "[]", "[[1], []]", "[[[1, 2]], []]", "{"])
def test_row_that_no_server_wrote_is_damage(
    connection: apsw.Connection, server: Server, served: str
) -> None:
    connection.execute("INSERT INTO server VALUES ('x', ?, ?)", (SECOND_NS, served))
    with pytest.raises(StoreDamagedError, match="the row of a server is damaged"):
        server().renew(connection, SECOND_NS)


def test_store_that_is_closed_has_no_server(
    directory: pathlib.Path, connection: apsw.Connection
) -> None:
    store = SqliteStore.open(directory)
    store.announce(ONE)
    store.upkeep()
    assert connection.execute("SELECT count(*) FROM server").fetchall() == [(1,)]
    store.close()
    assert connection.execute("SELECT count(*) FROM server").fetchall() == [(0,)]
