"""A simulated car, its driver and the ten sensors of a phone on its windshield.

from tickcell import drive

car = drive.Drive(seed=1, seconds=60)
tick = car.tick(eased=False)        # tick.frame is [10] float32
recording = drive.record(seed=1, seconds=600)
"""

from tickcell.drive.sensors import RATE_HZ as RATE_HZ
from tickcell.drive.sensors import SENSORS as SENSORS
from tickcell.drive.simulation import LABEL as LABEL
from tickcell.drive.simulation import Drive as Drive
from tickcell.drive.simulation import Tick as Tick
from tickcell.drive.simulation import record as record

__all__ = ["LABEL", "RATE_HZ", "SENSORS", "Drive", "Tick", "record"]
