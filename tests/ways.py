"""The ways to step a session through frames: each takes [T, F] and yields T outputs [O]."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from doubles.awaited_session import AwaitedSession, paced_loop
from tickcell.client import Session


def by_step(session: Session, frames: np.ndarray) -> Iterator[np.ndarray]:
    return map(session.step, frames)


def by_steps(session: Session, frames: np.ndarray) -> Iterator[np.ndarray]:
    return itertools.chain.from_iterable(map(session.steps, np.split(frames, 20)))


def by_stream(session: Session, frames: np.ndarray) -> Iterator[np.ndarray]:
    return session.stream(frames)


def by_tick(session: Session, frames: np.ndarray) -> Iterator[np.ndarray]:
    with paced_loop(session, rate_hz=1000, budget_s=30) as paced:
        for frame in frames:
            output = paced.tick(frame)
            assert output is not None
            yield output


WAYS = [by_step, by_steps, by_stream, by_tick]
# Each with what makes the sessions that go that way.
DRIVEN_WAYS = [
    *(pytest.param(Session, way, id=f"threads-{way.__name__}") for way in WAYS),
    *(pytest.param(AwaitedSession, way, id=f"asyncio-{way.__name__}") for way in WAYS),
]
