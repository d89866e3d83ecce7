"""Sessions that go from server to server, and each of their outputs is the plain loop's.

Servers are processes of their own, on stores of their own: two of SQLite, or one of SQLite and
one of PostgreSQL.
"""

from __future__ import annotations

import contextlib
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest

from databases import Databases
from doubles.blocking_store import BlockingStore
from doubles.bundle_variant import variant
from server.serve_process import ServeProcess
from tickcell import drive
from tickcell.client import Session, errors
from tickcell.model import Bundle, recording
from tickcell.server.store import EmbeddedStore, Key, SqliteStore
from tickcell.server.store.postgres.postgres_store import PostgresStore

LEG, WINDOW = 400, 50


@pytest.fixture(scope="module", params=["sample", "recording"])
def frames(request: pytest.FixtureRequest) -> np.ndarray:
    """Frames of the shipped sample, `[3000, F]`, or of a real drive, `[10000, F]`."""
    if request.param == "sample":
        return Bundle.load().golden.frames
    recordings: pathlib.Path = request.getfixturevalue("recordings")
    read = recording.read(
        recordings / "trip17.csv", drive.SENSORS, recording.Layout(label=drive.LABEL)
    )
    return read.frames[:10_000]


@pytest.fixture(scope="module")
def versions() -> dict[str, Bundle]:
    """Two versions of one network, with other weights and the same state tensors."""
    bundle = Bundle.load()
    return {"1": bundle, "2": variant(bundle, "2")}


@pytest.fixture(scope="module")
def models(versions: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A repository with both."""
    directory = tmp_path_factory.mktemp("models")
    (directory / "drive").mkdir()
    for version, bundle in versions.items():
        bundle.write(directory / "drive" / version)
    return directory


class Place:
    """A store and two servers on it, each a process of its own.

    Attributes:
      addresses: of the servers.
    """

    def __init__(self, store: EmbeddedStore | BlockingStore, servers: list[ServeProcess]) -> None:
        self._store = store
        self.addresses = [server.address for server in servers]

    def record(self, session: Session) -> bytes:
        """Returns a session's record as it lies in the store."""
        (found,) = self._store.load([Key("", session.id)])
        assert found is not None
        return found


@contextlib.contextmanager
def place(models: pathlib.Path, where: pathlib.Path | str) -> Iterator[Place]:
    arguments = ("--store", str(where), "--models", str(models), "--listen", "localhost:0")
    with ServeProcess(*arguments) as one, ServeProcess(*arguments) as other:
        store: EmbeddedStore | BlockingStore
        if isinstance(where, str):
            store = BlockingStore(PostgresStore(where)).open()
        else:
            store = SqliteStore.open(where)
        with contextlib.closing(store):
            yield Place(store, [one, other])


@pytest.fixture(params=["sqlite", "postgresql"])
def places(
    request: pytest.FixtureRequest,
    models: pathlib.Path,
    databases: Databases,
    tmp_path: pathlib.Path,
) -> Iterator[list[Place]]:
    """A place on SQLite, and another one."""
    there: pathlib.Path | str = tmp_path / "there"
    if request.param == "postgresql":
        there = databases.new()
    with place(models, tmp_path / "here") as here, place(models, there) as other:
        yield [here, other]


class Traveller:
    """A session, and the plain loop beside it.

    Attributes:
      session: as it was taken up last.
      here: where it is; `there` is the other place.
    """

    def __init__(
        self, places: list[Place], versions: dict[str, Bundle], frames: np.ndarray
    ) -> None:
        self.here, self.there = places
        self._frames = frames
        self._cells = {version: bundle.cell() for version, bundle in versions.items()}
        self._version = "1"
        self._state = self._cells["1"].initial_state()
        self.session = Session.create(self.here.addresses[0], model_version="1", window=WINDOW)

    def advance(self, count: int) -> None:
        """Previews the first of the frames that are due, and gives all of them to the session."""
        first = self.session.next_step
        due = self._frames[first : first + count]
        expected = []
        for frame in due:
            output, self._state = self._cells[self._version].step(frame, self._state)
            expected.append(output)
        before = self.here.record(self.session)
        previewed = self.session.preview(np.stack([due[:WINDOW], due[WINDOW - 1 :: -1]]))
        assert self.here.record(self.session) == before
        assert previewed[0].tobytes() == np.stack(expected[:WINDOW]).tobytes(), first
        assert self.session.steps(due).tobytes() == np.stack(expected).tobytes(), first

    def fork(self) -> None:
        """Goes on as a fork; the one before goes astray, and does not matter."""
        source = self.session
        self._attach(source.fork().id)
        source.step(self._frames[0])
        source.detach()

    def move(self) -> None:
        """Goes on from an export in the other place; nothing goes on here."""
        left = self.session
        exported = left.export(end=True)
        with pytest.raises(errors.SessionMovedError):
            Session.attach(self.here.addresses[1], left.id)
        self.here, self.there = self.there, self.here
        self.session = Session.create(self.here.addresses[0], left.id, export=exported)
        assert self.session.info.model_version == self._version
        # What was on its way when it moved is answered from the window that came along.
        at = self.session.next_step
        outputs = self.session.kept_outputs(at - WINDOW)[1]
        self.session.rewind(at - WINDOW)
        again = self.session.steps(self._frames[at - WINDOW : at])
        assert again.tobytes() == outputs.tobytes()

    def copy(self) -> None:
        """Goes on from an export without its window beside the session that it is of."""
        exported = self.session.export(window=False)
        self.session.detach()
        self.session = Session.create(self.here.addresses[1], export=exported)
        assert self.session.kept_outputs()[1].size == 0

    def claim(self) -> None:
        """Goes on by another server of the store; the one before is told."""
        before = self.session
        self.session = Session.open(self.here.addresses[1], before.id)
        with pytest.raises(errors.SessionClaimedError):
            before.step(self._frames[before.next_step])
        before.detach()

    def migrate(self) -> None:
        """Goes on with the other version, and the state that it has."""
        self._version = "2" if self._version == "1" else "1"
        self.session.migrate(self._version)

    def burn_in(self) -> None:
        """Goes on with the other version, and the state to which all frames so far lead."""
        self._version = "2" if self._version == "1" else "1"
        cell, led_up = self._cells[self._version], self._frames[: self.session.next_step]
        self._state = cell.initial_state()
        for frame in led_up:
            _, self._state = cell.step(frame, self._state)
        self.session.migrate(self._version, burn_in=led_up)

    def _attach(self, session: str) -> None:
        self.session = Session.attach(self.here.addresses[0], session)


@pytest.mark.lengthy
def test_whatever_way_a_session_takes_it_goes_on_as_the_loop(
    places: list[Place], versions: dict[str, Bundle], frames: np.ndarray
) -> None:
    traveller = Traveller(places, versions, frames)
    ways = itertools.cycle(
        (
            *(traveller.move, traveller.fork, traveller.migrate, traveller.claim),
            *(traveller.copy, traveller.move, traveller.burn_in),
        )
    )
    traveller.advance(LEG)
    while traveller.session.next_step < len(frames):
        next(ways)()
        traveller.advance(LEG)
    assert traveller.session.next_step == len(frames)
    traveller.session.close()
