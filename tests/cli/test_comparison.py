"""A comparison that could not fail would prove nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tickcell.cli.comparison import compare, loop
from tickcell.model import LiteRTCell


@pytest.fixture(scope="module")
def outputs() -> np.ndarray:
    return np.random.default_rng(0).random((100, 2, 3), np.float32)


def test_the_same_bits_pass(outputs: np.ndarray) -> None:
    result = compare("streamed", outputs, "loop", outputs.copy())
    assert result.is_passed
    assert str(result) == "all 600 equal to the bit"


def spoil(outputs: np.ndarray, how: str) -> np.ndarray:
    spoiled = outputs.copy()
    if how == "a step dropped":
        spoiled[40:-1] = spoiled[41:]
    elif how == "a step doubled":
        spoiled[41:] = spoiled[40:-1]
    elif how == "two series swapped":
        spoiled[40] = spoiled[40, ::-1]
    elif how == "one bit flipped":
        spoiled.view(np.uint32)[40, 1, 2] ^= 1
    elif how == "a NaN":
        spoiled[40, 0, 0] = np.nan
    return spoiled


@pytest.mark.parametrize(
    "how",
    ["a step dropped", "a step doubled", "two series swapped", "one bit flipped", "a NaN"],
)
def test_what_is_wrong_is_caught_at_its_step(outputs: np.ndarray, how: str) -> None:
    result = compare("streamed", spoil(outputs, how), "loop", outputs)
    assert not result.is_passed
    assert result.at_step >= 40


def test_a_number_of_another_size_may_differ_by_a_share_of_it(outputs: np.ndarray) -> None:
    numbers = outputs * np.float32(1000)
    largest = float(numbers.max())

    near = compare("a", numbers + np.float32(0.8e-5 * largest), "b", numbers, tolerance=1e-5)
    far = compare("a", numbers + np.float32(1.5e-5 * largest), "b", numbers, tolerance=1e-5)

    assert (near.is_passed, far.is_passed) == (True, False)


def test_by_tolerance_a_bit_may_differ_and_no_more(outputs: np.ndarray) -> None:
    near = compare("a", spoil(outputs, "one bit flipped"), "b", outputs, tolerance=1e-5)
    far = compare("a", outputs + np.float32(2e-5), "b", outputs, tolerance=1e-5)
    assert (near.is_passed, far.is_passed) == (True, False)


def test_a_nan_is_never_within_a_tolerance(outputs: np.ndarray) -> None:
    assert not compare("a", spoil(outputs, "a NaN"), "b", outputs, tolerance=1e-5).is_passed


def test_minus_zero_is_another_bit() -> None:
    zero = np.zeros((1, 1), np.float32)
    assert compare("a", -zero, "b", zero).differing == 1


def test_the_loop_is_the_promise_s(cell: LiteRTCell, frames: np.ndarray) -> None:
    outputs, state = [], cell.initial_state()
    for frame in frames:
        output, state = cell.step(frame, state)
        outputs.append(output)
    assert loop(cell, frames).tobytes() == np.stack(outputs).tobytes()
