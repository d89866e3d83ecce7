"""PostgreSQL is put back to a backup taken mid-run: clients heal it, or there is one error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from deploy.cluster.drives import Drives, Manner
from deploy.cluster.postgres import Postgres

from databases import Databases
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors


class Service(NamedTuple):
    """Two servers on a PostgreSQL, which live on while it is put back."""

    database: Postgres
    servers: list[ServerProcess]

    @property
    def addresses(self) -> str:
        """Of both servers."""
        return ",".join(server.address for server in self.servers)

    def back_up(self, name: str) -> Path:
        """Takes a backup; returns where it lies."""
        # Where whoever runs PostgreSQL may write.
        backup = Path(self.database.query("SHOW data_directory")).with_name(name)
        self.database.back_up(backup)
        return backup


@pytest.fixture
def service(databases: Databases, tmp_path: Path) -> Iterator[Service]:
    with databases.alone() as database, contextlib.ExitStack() as stack:
        servers = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            server = ServerProcess(tmp_path / name, "--store", database.url, listen="127.0.0.1:0")
            servers.append(stack.enter_context(server))
        yield Service(database, servers)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loaded machine more than five seconds lie between a backup and its return."""
    monkeypatch.setattr("tickcell.client.recall.KEPT_S", 120.0)


def test_cars_drive_on_over_a_postgresql_that_is_put_back(service: Service) -> None:
    drives = Drives(service.addresses, 10, Manner(hz=20))
    with drives.driving():
        drives.wait(10)
        backup = service.back_up("mid-drive")
        drives.wait(20)
        service.database.put_back(backup)
        drives.wait(20)
    # The sessions of all of them were put back, and none twice.
    assert [car.session.rollback_count for car in drives.cars] == [1] * 10
    verdict = drives.verdict()
    assert verdict.is_passed, verdict


def test_zombies_that_wrote_to_what_was_put_back_are_found_out(
    service: Service, frames: np.ndarray, expected: np.ndarray
) -> None:
    one, other = (server.address for server in service.servers)
    # Fewer steps than are missing, and more, but not more than the window holds.
    sessions = {written: Session.create(one, window=8) for written in (3, 35)}
    outputs = {written: [*session.steps(frames[:10])] for written, session in sessions.items()}
    backup = service.back_up("mid-run")
    for written, session in sessions.items():
        outputs[written] += [*session.steps(frames[10:40])]
    service.database.put_back(backup)
    for written, session in sessions.items():
        zombie = Session.attach(other, session.id)
        assert zombie.next_step == 10
        zombie.steps(frames[100 : 100 + written])
        zombie.detach()
    for written, session in sessions.items():
        with session:
            with pytest.raises(errors.StepConflictError):
                outputs[written] += map(session.step, frames[40:60])
            assert session.next_step == 40
        assert np.stack(outputs[written]).tobytes() == expected[:40].tobytes()


def test_session_that_the_backup_does_not_hold_is_said_to_be_lost(
    service: Service, frames: np.ndarray
) -> None:
    backup = service.back_up("before-the-create")
    with Session.create(service.addresses, window=8) as session:
        session.steps(frames[:10])
        service.database.put_back(backup)
        with pytest.raises(errors.CreateLostError, match="put back to before the session was"):
            session.step(frames[10])
