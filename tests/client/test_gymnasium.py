"""The series of a session are the environments of a gymnasium vector, episode after episode."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import LiteRTCell

ENVIRONMENTS, TICKS = 3, 60


class Drives(gymnasium.Env[np.ndarray, int]):
    """Short drives, each a piece of a recording; what it does is of no consequence.

    Attributes:
      drives: the observations of each drive, the first one's first.
    """

    def __init__(self, recording: np.ndarray, number: int) -> None:
        sensors = recording.shape[1]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (sensors,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(1)
        self.drives: list[list[np.ndarray]] = []
        self._recording = recording
        self._chance = np.random.default_rng(number)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self._length = int(self._chance.integers(2, 9))
        self._at = int(self._chance.integers(len(self._recording) - self._length))
        self.drives.append([])
        return self._observed(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observed = self._observed()
        # One way to end or the other.
        is_over = len(self.drives[-1]) == self._length
        is_cut = is_over and self._length % 2 == 0
        return observed, 0.0, is_over and not is_cut, is_cut, {}

    def _observed(self) -> np.ndarray:
        frame: np.ndarray = self._recording[self._at + len(self.drives[-1])]
        self.drives[-1].append(frame)
        return frame


def _itself(own: Drives) -> Drives:
    return own


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_each_episode_is_a_loop_of_its_own(
    mode: AutoresetMode,
    sessions: type[Session],
    server: ServerProcess,
    cell: LiteRTCell,
    frames: np.ndarray,
) -> None:
    drives = [Drives(frames, number) for number in range(ENVIRONMENTS)]
    makers = [functools.partial(_itself, own) for own in drives]
    vector: Any = SyncVectorEnv(makers, autoreset_mode=mode)
    outputs = []
    with sessions.create(server.address, series_count=ENVIRONMENTS) as session:
        observations, _ = vector.reset()
        is_first, ended = np.ones(ENVIRONMENTS, bool), np.zeros(ENVIRONMENTS, bool)
        for _ in range(TICKS):
            outputs.append(session.step(observations, resets=is_first))
            observations, _, terminated, truncated, _ = vector.step(np.zeros(ENVIRONMENTS, int))
            before, ended = ended, terminated | truncated
            is_first = ended if mode is AutoresetMode.SAME_STEP else before
    for series, own in enumerate(drives):
        expected = []
        for drive in own.drives:
            # In the same step, the last observation of a drive gives way to the next one's first.
            is_through = drive is not own.drives[-1]
            seen = drive[:-1] if mode is AutoresetMode.SAME_STEP and is_through else drive
            expected.append(comparison.loop(cell, np.stack(seen)))
        got = np.stack([output[series] for output in outputs])
        assert len(own.drives) > 5
        assert got.tobytes() == np.concatenate(expected)[:TICKS].tobytes()
