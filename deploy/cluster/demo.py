"""What the cluster is for, shown: cars drive while one part after the other is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from deploy.cluster.cluster import Cluster, OnPostgres
from deploy.cluster.drives import Drives, Manner

_CARS = 8
# Long enough between two blows to see that all goes on.
_BREATH_S = 3.0


def run(cluster: Cluster, store: OnPostgres, say: Callable[[str], object]) -> bool:
    """Drives, kills and compares; returns whether all is as it must be."""
    drives = Drives(cluster.envoy.address, _CARS, Manner())
    say(f"{_CARS} cars drive at {Manner().hz:g} Hz, through Envoy at {cluster.envoy.address}")
    began = time.monotonic()

    def told(line: str) -> None:
        outputs = sum(len(car.outputs) for car in drives.cars)
        say(f"  {time.monotonic() - began:5.1f} s  {outputs:5} outputs  {line}")

    with drives.driving():
        for replica in cluster.replicas:
            time.sleep(_BREATH_S)
            told(f"kill -9 {replica.name}, and start it again")
            replica.kill()
            replica.run()
        time.sleep(_BREATH_S)
        told("kill -9 Envoy, and start it again")
        cluster.envoy.kill()
        cluster.envoy.run()
        time.sleep(_BREATH_S)
        database = store.database
        killed = database.primary
        told(f"kill -9 {killed.name}, the primary")
        killed.kill()
        told(f"{database.fail_over().name} is the primary")
        rejoining = threading.Thread(target=database.join, args=(killed,))
        rejoining.start()
        drives.wait()
        rejoining.join()
        told(f"{killed.name} is back, as a standby")
        time.sleep(_BREATH_S)
        told("the cars stop")
    verdict = drives.verdict()
    say(f"the longest gap between two outputs of a car: {drives.longest_gap}")
    say(f"beside the plain loop in this process, bit for bit: {verdict}")
    return verdict.is_passed
