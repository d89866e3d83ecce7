"""What the service promises of a failure, at a load, in figures: `make chaos` prints them."""

from __future__ import annotations

import threading
import time

import pytest
from deploy.cluster.drives import Drives, Manner
from deploy.cluster.replica import Replica

from chaos.conftest import Extent
from chaos.storm import Storm

pytestmark = pytest.mark.slow

_MANNER = Manner(hz=10, window=4)
_PERIOD_S = 1.0
# How often the primary is killed in a run.
_FAILOVERS = 3
# So long after a failure all is as it was.
_CALM_S = 5.0


def _report(drives: Drives, what: str) -> None:
    verdict = drives.verdict()
    print(f"\n{what}\n  {verdict}\n  longest gap between two outputs: {drives.longest_gap}")
    assert verdict.is_passed, verdict


@pytest.mark.parametrize("way", ["through Envoy", "by its three addresses"])
def test_replicas_killed_each_second_lose_no_step(
    on_postgres: Storm, extent: Extent, way: str
) -> None:
    replicas = on_postgres.cluster.replicas
    addresses = ",".join(on_postgres.cluster.addresses)
    drives = Drives(
        on_postgres.cluster.envoy.address if way == "through Envoy" else addresses,
        extent.streams,
        _MANNER,
    )
    kills, starting = 0, list[threading.Thread]()
    with drives.driving():
        drives.wait()
        began = time.monotonic()
        while time.monotonic() < began + extent.seconds:
            replica = _longest_up(replicas)
            replica.kill()
            kills += 1
            starting.append(threading.Thread(target=replica.run))
            starting[-1].start()
            time.sleep(max(0.0, began + kills * _PERIOD_S - time.monotonic()))
        seconds = time.monotonic() - began
        for thread in starting:
            thread.join()
    _report(
        drives,
        f"{extent.streams} streams {way}, {_MANNER.hz:g} Hz, {_MANNER.window} frames in flight; "
        f"{kills} kills of 3 replicas in {seconds:.0f} s",
    )
    assert kills > len(replicas)


def test_promoted_standbys_lose_no_acknowledged_step(on_postgres: Storm, extent: Extent) -> None:
    drives = Drives(on_postgres.cluster.envoy.address, extent.streams, _MANNER)
    with drives.driving():
        for _ in range(_FAILOVERS):
            drives.wait()
            time.sleep(_CALM_S)
            on_postgres.kill_the_primary()
        drives.wait()
    _report(
        drives,
        f"{extent.streams} streams through Envoy; the primary killed and a standby promoted "
        f"{_FAILOVERS} times",
    )


def test_commits_that_hung_before_a_promotion_are_applied_once(
    on_postgres: Storm, extent: Extent
) -> None:
    drives = Drives(on_postgres.cluster.envoy.address, extent.streams, _MANNER)
    with drives.driving():
        drives.wait()
        time.sleep(_CALM_S)
        on_postgres.stop_the_standbys_and_kill_the_primary()
        drives.wait()
    _report(
        drives,
        f"{extent.streams} streams through Envoy; standbys stopped for 6 s, then the primary "
        "killed and a standby promoted",
    )


def _longest_up(replicas: list[Replica]) -> Replica:
    """Waits until two of them serve, so that there is one left, and returns the older one."""
    while True:
        up = sorted((each for each in replicas if each.is_up), key=lambda each: each.up_since_s)
        if len(up) > 1:
            return up[0]
        time.sleep(0.01)
