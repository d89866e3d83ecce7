"""A robot's node: pushes each frame of its IMU to a session, and publishes the outputs.

    tickcell serve
    python examples/imu_node.py robot-7

What may fail, and what becomes of it:

- The link or the server goes away: frames wait here, up to ten minutes of them, and go out in
  their order when it is back. Until then the outputs are published as missing.
- The node ends: its session is kept on the server under the robot's name, and the next start of
  the node goes on with it. On SIGTERM the node first waits for what is on its way.
- A reading drops out: the sensor's last good one takes its place.
- More than that, such as a longer outage, ends the node with an error; let systemd start it again.
"""

import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

from tickcell import drive
from tickcell.client import PacedSession, Session, errors

OUTAGE_S = 600.0


def readings() -> Iterator[np.ndarray]:
    """Simulates an IMU on a car, `[10]` a tick; every hundredth tick a gyroscope drops out."""
    car = drive.Drive(seed=7)
    for index in itertools.count(1):
        frame = car.tick(eased=False).frame
        if index % 100 == 0:
            frame[8] = np.nan
        yield frame


def session_of(robot: str, address: str) -> Session:
    """Goes on with the robot's session, or creates it; waits for a server as long as it takes."""
    try:
        return Session.attach(address, robot, on_dropout="hold", retry_for_s=OUTAGE_S)
    except errors.SessionEndedError:
        return Session.create(address, robot, on_dropout="hold", retry_for_s=OUTAGE_S)


def publish(step: int, output: np.ndarray | None) -> None:
    """Stands for a topic: the step and its output, or nothing where that is not there in time."""
    print(step, "" if output is None else float(output[0]), sep=",", flush=True)


def run(robot: str, address: str = "localhost:50061") -> None:
    """Pushes frames until SIGTERM or Ctrl-C."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    session = session_of(robot, address)
    first = session.next_step
    with PacedSession(session, rate_hz=drive.RATE_HZ, backlog_s=OUTAGE_S) as paced:
        start = time.monotonic()
        for index, frame in enumerate(readings()):
            publish(first + index, paced.tick(frame))
            due = start + (index + 1) / drive.RATE_HZ
            if stopped.wait(max(0.0, due - time.monotonic())):
                break
    session.detach()


if __name__ == "__main__":
    run(*sys.argv[1:3])
