"""Cars drive by a cluster whose parts are killed, stopped and cut off, and notice nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deploy.cluster.drives import Drives, Manner

from chaos.storm import Storm

_CARS = 6
# Programs that are started again all the time, and send again in other chunks.
_RESTLESS = Manner(hz=20, window=8, leg=40)


def _drive_through(storm: Storm, *blows: Callable[[], None]) -> None:
    drives = Drives(storm.front.address, _CARS, _RESTLESS)
    with drives.driving():
        for blow in blows:
            drives.wait()
            blow()
        drives.wait()
    verdict = drives.verdict()
    print(f"{verdict}; longest gap {drives.longest_gap}")
    assert verdict.is_passed, verdict


def test_killed_stopped_and_cut_parts_change_no_output(cluster: Storm) -> None:
    _drive_through(
        cluster,
        cluster.kill_a_replica,
        cluster.cut_the_clients,
        cluster.restart_envoy,
        cluster.stop_a_replica,
    )


def test_rolling_upgrade_changes_no_output(cluster: Storm) -> None:
    _drive_through(cluster, cluster.upgrade_the_replicas)


def test_promoted_standby_has_all_that_the_killed_primary_acknowledged(
    on_postgres: Storm,
) -> None:
    _drive_through(on_postgres, on_postgres.kill_the_primary, on_postgres.cut_the_database)


def test_commits_that_hung_when_the_primary_was_killed_are_applied_once(
    on_postgres: Storm,
) -> None:
    _drive_through(on_postgres, on_postgres.stop_the_standbys_and_kill_the_primary)


@pytest.mark.slow
def test_every_blow_by_itself_changes_no_output(cluster: Storm) -> None:
    _drive_through(cluster, *cluster.blows)
