"""Frames on which a step is compared with its model: random, masked, whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.keras import whole
from tickcell.model.keras.rules.rule import Timing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.keras.plan import Plan

_SERIES_COUNT = 4


def standard(plan: Plan, generator: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Returns `[T, F]` standard normal frames: a golden for want of a recording."""
    frames = generator.standard_normal((count, plan.sensor_count), np.float32)
    return _allowed(plan, generator, frames)


def random(
    plan: Plan, generator: np.random.Generator, golden: NDArray[np.float32], step_count: int
) -> NDArray[np.float32]:
    """Returns `[B, T, F]` on the golden's own scale: elsewhere a model may be saturated.

    Where frames can be masked, some are: the first ones of a series, single ones, runs,
    and ever longer ones up to all but one.
    """
    shape = (_SERIES_COUNT, step_count, plan.sensor_count)
    frames = generator.standard_normal(shape, np.float32)
    # A reading that stands still in the golden moves here, or nothing would be compared.
    deviations = golden.std(axis=0)
    deviations[deviations == 0] = 1.0
    scaled = np.asarray(frames * deviations + golden.mean(axis=0), np.float32)
    scaled = _allowed(plan, generator, scaled)
    if plan.mask_value is not None:
        scaled[_masked(generator, step_count)] = plan.mask_value
    return scaled


def _allowed(
    plan: Plan, generator: np.random.Generator, frames: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Makes whole what a model takes as whole numbers, and repeats what it takes once.

    Of a vocabulary all words are drawn alike.
    """
    for column, limits in enumerate(whole.limits(plan)):
        if limits is None:
            continue
        lowest, highest, is_vocabulary = limits
        if is_vocabulary:
            frames[..., column] = generator.integers(lowest, highest + 1, frames.shape[:-1])
        else:
            frames[..., column] = np.clip(np.rint(frames[..., column]), lowest, highest)
    for value, columns in plan.columns():
        if value.timing is Timing.GIVEN:
            frames[..., columns] = frames[..., :1, columns]
    return frames


def _masked(generator: np.random.Generator, step_count: int) -> NDArray[np.bool_]:
    masked = np.zeros((_SERIES_COUNT, step_count), np.bool_)
    masked[0, :3] = True
    masked[1] = generator.random(step_count) < 0.2
    starts = np.arange(7, step_count, 40)
    for length, start in enumerate(starts, 1):
        masked[2, start : start + min(length, 30)] = True
    masked[3] = True
    masked[3, 2] = False
    return masked
