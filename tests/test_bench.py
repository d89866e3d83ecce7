"""The benchmark measures ticks that are right, and runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_benchmark_prints_a_ratio_for_each_number_of_streams(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--pairs", "20", "--seconds", "0.5"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line]
    measured = {
        row[0]: float(row[-1]) for row in rows if row[0] in ("p50", "p99", "1", "32", "256")
    }
    assert len(measured) == 5
    assert all(ratio > 0 for ratio in measured.values())
