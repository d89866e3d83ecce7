"""Agents of asyncio: several cars in one process, each with a session of its own.

    tickcell serve
    python examples/async_agent.py

An output that is not there when the next tick is due is answered by easing. Whether its step was
applied is not known, and need not be: `next_step` has not moved, so the frame is sent again, with
the next one, and the state misses nothing.
"""

import asyncio
import sys

import numpy as np

from tickcell import drive
from tickcell.client import AsyncSession

THRESHOLD, CARS = 0.5, 4


async def run(seed: int, address: str = "localhost:50061", seconds: float | str = 20) -> None:
    """Drives one car for so long, then says how it went."""
    car, eased = drive.Drive(seed, float(seconds)), False
    frames, tick_count, late_count = list[np.ndarray](), 0, 0
    async with AsyncSession.create(address) as session:
        due = asyncio.get_running_loop().time()
        while not (tick := car.tick(eased)).done:
            due += 1 / drive.RATE_HZ
            frames.append(tick.frame)
            first = session.next_step
            try:
                async with asyncio.timeout_at(due):
                    outputs = await session.steps(np.stack(frames))
                eased = bool(outputs[-1, 0] >= THRESHOLD)
            except TimeoutError:
                eased, late_count = True, late_count + 1
            tick_count += 1
            del frames[: session.next_step - first]
            await asyncio.sleep(due - asyncio.get_running_loop().time())
    print(f"car {seed}: {tick_count} ticks, {late_count} late")


async def main() -> None:
    """Drives all cars at once."""
    async with asyncio.TaskGroup() as cars:
        for seed in range(CARS):
            cars.create_task(run(seed, *sys.argv[1:3]))


if __name__ == "__main__":
    asyncio.run(main())
