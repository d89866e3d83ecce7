"""A gateway: the frames of many robots at each tick, in one message.

    tickcell serve
    python examples/gateway.py

Each car has a session of its own. Where one has no output, its frame is due again: that car waits
for it, and the others go on.
"""

import sys
import time

from tickcell import drive
from tickcell.client import Gateway, TickcellError

THRESHOLD = 0.5


def run(
    address: str = "localhost:50061", seconds: float | str = 20, car_count: int | str = 256
) -> None:
    """Drives so many cars for so long, then says how it went."""
    cars = {f"car-{seed}": drive.Drive(seed, float(seconds)) for seed in range(int(car_count))}
    frames = {name: car.tick(eased=False).frame for name, car in cars.items()}
    step_count = eased_count = 0
    with Gateway(address) as gateway:
        for name in cars:
            gateway.create(name)
        began = time.monotonic()
        while frames:
            for name, output in gateway.step(frames).items():
                if isinstance(output, TickcellError):
                    print(f"{name}: {output}", file=sys.stderr)
                    continue
                eased = bool(output[0] >= THRESHOLD)
                step_count, eased_count = step_count + 1, eased_count + eased
                tick = cars[name].tick(eased)
                if tick.done:
                    del frames[name]
                else:
                    frames[name] = tick.frame
        taken_s = time.monotonic() - began
    print(
        f"{len(cars)} cars, {step_count} steps, {eased_count} eased; {step_count / taken_s:.0f} "
        "steps/s, the cars included"
    )


if __name__ == "__main__":
    run(*sys.argv[1:4])
