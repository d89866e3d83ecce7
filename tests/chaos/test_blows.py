"""Cars drive by a cluster whose parts are killed, stopped and cut off, and notice nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import pytest
from deploy.cluster.drives import Drives, Manner

from chaos.conftest import Extent
from chaos.storm import Storm

_CARS = 6
# Programs that are started again all the time, and send again in other chunks.
_RESTLESS = Manner(hz=20, window=8, leg=40)


def drive_through(
    storm: Storm, blows: Sequence[Callable[[], None]], cars: int = _CARS, manner: Manner = _RESTLESS
) -> None:
    """Lets cars drive while the blows fall, and holds all that they got to the plain loop."""
    drives = Drives(storm.front.address, cars, manner)
    with drives.driving():
        for blow in blows:
            drives.wait()
            blow()
        drives.wait()
    verdict = drives.verdict()
    print(f"{verdict}; longest gap {drives.longest_gap}")
    assert verdict.is_passed, f"{verdict}, after: {'; '.join(storm.done)}"


def test_killed_stopped_and_cut_parts_change_no_output(cluster: Storm) -> None:
    blows = [
        cluster.kill_a_replica,
        cluster.cut_the_clients,
        cluster.restart_envoy,
        cluster.stop_a_replica,
        cluster.upgrade_the_replicas,
    ]
    if cluster.database is not None:
        blows += [
            cluster.kill_the_primary,
            cluster.cut_the_database,
            # Commits hang; their servers give them up; they are applied once all the same.
            cluster.stop_the_standbys_and_kill_the_primary,
        ]
    drive_through(cluster, blows)


def test_clocks_that_jump_change_no_output(wrong_clocks: Storm) -> None:
    drive_through(wrong_clocks, [wrong_clocks.jump_the_clocks] * 3)


@pytest.mark.slow
def test_every_blow_by_itself_changes_no_output(cluster: Storm) -> None:
    drive_through(cluster, cluster.blows)


@pytest.mark.slow
def test_many_sessions_are_as_in_the_plain_loop_after_a_storm(
    cluster: Storm, extent: Extent
) -> None:
    until = time.monotonic() + extent.seconds

    def blow() -> None:
        random.choice(cluster.blows)()

    def blow_on() -> None:
        while time.monotonic() < until:
            blow()
            time.sleep(random.uniform(0, 2))

    # So many frames a second as two cores take beside all that is started again.
    hz = min(10.0, 300 / extent.sessions)
    drive_through(cluster, [blow_on], extent.sessions, Manner(hz=hz, window=8, leg=30))
