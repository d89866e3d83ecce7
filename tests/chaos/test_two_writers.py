"""Two clients on one session, each through a replica of its own: each step has one of them."""

from __future__ import annotations

import concurrent.futures
import sys
import threading

import numpy as np
import pytest
from deploy.cluster import postgres, process, programs
from deploy.cluster.postgres import Postgres
from deploy.cluster.replica import Replica

from tickcell import drive
from tickcell.cli import comparison
from tickcell.client import Session, errors
from tickcell.model import Bundle

_STEPS = 40


def test_one_of_two_clients_wins_each_step() -> None:
    try:
        programs.postgresql()
    except programs.MissingError as error:
        pytest.skip(str(error))
    with postgres.directory() as directory:
        database = Postgres(directory / "postgres")
        database.initialize()
        with database:
            url = database.url
            process.run([sys.executable, "-m", "tickcell.cli", "store", "init", url])
            one, other = (
                Replica(directory / name, name, ["--store", url]) for name in ("one", "other")
            )
            try:
                one.run()
                other.run()
                _contend(one.address, other.address)
            finally:
                one.end()
                other.end()


def _contend(one: str, other: str) -> None:
    bundle = Bundle.load()
    frames = [drive.record(seed, _STEPS / drive.RATE_HZ).frames for seed in (1, 2)]
    together = threading.Barrier(2, timeout=process.PATIENCE_S)
    id_ = Session.create(one).id

    def step(client: int, at: int) -> np.ndarray | None:
        """Returns the output, or None where the other one was there first."""
        session = Session.attach((one, other)[client], id_)
        try:
            assert session.next_step == at
            together.wait()
            return session.step(frames[client][at])
        except errors.StepConflictError:
            return None
        finally:
            session.detach()

    won, outputs = [], []
    with concurrent.futures.ThreadPoolExecutor(2) as clients:
        for at in range(_STEPS):
            got = list(clients.map(step, (0, 1), (at, at)))
            (winner,) = [client for client, output in enumerate(got) if output is not None]
            won.append(winner)
            outputs.append(got[winner])
    print(f"steps won: {won.count(0)} and {won.count(1)}")
    given = np.stack([frames[winner][at] for at, winner in enumerate(won)])
    expected = comparison.loop(bundle.cell(), given)
    assert np.stack(outputs).tobytes() == expected.tobytes()  # type: ignore[arg-type]
    with Session.attach(other, id_) as session:
        assert session.next_step == _STEPS
