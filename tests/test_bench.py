"""The benchmark measures ticks that are right, and runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench import streaming

from tickcell.cli import server_process
from tickcell.model import Bundle


def test_a_stream_is_measured_beside_steps_and_against_the_loop() -> None:
    with server_process.temporary() as server:
        rates = streaming.measure(
            server.address, Bundle.load(), window=32, step_count=100, round_count=3
        )
    assert rates.steps.shape == rates.array.shape == rates.iterator.shape == (3,)
    assert rates.array_ratio > 0
    assert rates.iterator_ratio > 0


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
