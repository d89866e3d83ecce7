"""The cars of a gymnasium vector as the series of one session, drive after drive.

    pip install gymnasium
    tickcell serve
    python examples/vector_env.py

Each drive begins with the model's initial state, while the others go on. The vector resets a car
either in the step after the one that ends its drive (`NextStep`), or in that step (`SameStep`):

    python examples/vector_env.py localhost:50061 SameStep
"""

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tickcell import drive
from tickcell.client import Session

THRESHOLD, CARS = 0.5, 8


class Car(gymnasium.Env[np.ndarray, int]):
    """A simulated car: action 1 eases its driver, and the reward is how gently it drives."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (len(drive.SENSORS),), np.float32)
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins another drive, on another road."""
        super().reset(seed=seed)
        self._drive = drive.Drive(int(self.np_random.integers(2**31)), seconds=2)
        return self._drive.tick().frame, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Drives for one tick."""
        tick = self._drive.tick(eased=bool(action))
        return tick.frame, -tick.acceleration, tick.done, False, {}


def run(
    address: str = "localhost:50061", autoreset: str = "NextStep", ticks: int | str = 1000
) -> None:
    """Drives for so many ticks, and prints the sum of the rewards of each drive."""
    mode = AutoresetMode(autoreset)
    cars: Any = SyncVectorEnv([Car] * CARS, autoreset_mode=mode)
    with Session.create(address, series_count=CARS) as session:
        frames, _ = cars.reset(seed=1)
        is_first, ended, rewards = np.ones(CARS, bool), np.zeros(CARS, bool), np.zeros(CARS)
        for _ in range(int(ticks)):
            outputs = session.step(frames, resets=is_first)
            frames, reward, terminated, truncated, _ = cars.step(outputs[:, 0] >= THRESHOLD)
            before, ended = ended, terminated | truncated
            # In the next step, the frame after the last one of a drive is the first of another.
            is_first = ended if mode is AutoresetMode.SAME_STEP else before
            rewards += reward
            for car in np.flatnonzero(ended):
                print(f"car {car}: {rewards[car]:.6f}")
            rewards[ended] = 0.0


if __name__ == "__main__":
    run(*sys.argv[1:4])
