"""An agent in closed loop: fifty times a second it senses, asks its session, and acts.

    tickcell serve
    python examples/agent.py

The car is simulated. While the model says that a harsh manoeuvre is under way, the agent eases the
driver's pedals and steering. An output that is late, for whatever reason, is answered by easing,
which is the safe action; its frame is applied all the same, so the state misses nothing.
"""

import sys
import time

from tickcell import drive
from tickcell.client import PacedSession, Session

THRESHOLD = 0.5


def run(address: str = "localhost:50061", seconds: float | str = 20) -> None:
    """Drives for so long, then says how often the car was eased."""
    car, eased, eased_count = drive.Drive(seed=1, seconds=float(seconds)), False, 0
    with (
        Session.create(address) as session,
        PacedSession(session, rate_hz=drive.RATE_HZ) as paced,
    ):
        start = time.monotonic()
        while not (tick := car.tick(eased)).done:
            output = paced.tick(tick.frame)
            eased = output is None or output[0] >= THRESHOLD
            eased_count += eased
            due = start + paced.tick_count / drive.RATE_HZ
            time.sleep(max(0.0, due - time.monotonic()))
    print(f"{paced.tick_count} ticks: {eased_count} eased, {paced.late_count} late")


if __name__ == "__main__":
    run(*sys.argv[1:3])
