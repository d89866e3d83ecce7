"""Seeds of tests that draw by chance: some for every run, and the rest for the long proofs."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet


def of(count: int, always: int = 1) -> list[ParameterSet]:
    """Returns the seeds below a count; those from `always` on are slow."""
    return [
        pytest.param(seed, marks=[pytest.mark.slow] if seed >= always else [])
        for seed in range(count)
    ]
