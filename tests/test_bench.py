"""The benchmark measures ticks that are right, and runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from bench import big_cell, chunks, streaming, wide

from tickcell.cli import server_process
from tickcell.model import Bundle


@pytest.fixture(scope="module")
def big_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two LSTM layers of 512, whose outputs the measuring holds to those of the plain loop."""
    return big_cell.make(tmp_path_factory.mktemp("big") / "bundle")


def test_a_stream_is_measured_beside_steps_and_against_the_loop() -> None:
    with server_process.temporary() as server:
        rates = streaming.measure(
            server.address, Bundle.load(), window=32, step_count=100, round_count=3
        )
    assert rates.steps.shape == rates.array.shape == rates.iterator.shape == (3,)
    assert rates.array_ratio > 0
    assert rates.iterator_ratio > 0


@pytest.mark.slow
def test_chunks_are_measured_beside_the_plain_loop() -> None:
    measured = chunks.measure(Bundle.load(), with_keras=False, rounds=1)
    assert measured.keras is None
    assert measured.over_loop > 0
    assert measured.stretched > measured.looped


@pytest.mark.slow
def test_wide_sessions_are_measured_beside_the_bare_cell() -> None:
    measured = wide.measure(Bundle.load(), rounds=1)
    assert [(each.chunk, each.in_flight) for each in measured] == [(1, 1), (8, 1), (8, 2)]
    assert all(each.ratio > 0 for each in measured)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 8])
def test_a_big_cell_gives_the_bits_of_the_plain_loop_together_and_one_by_one(
    big_bundle: Bundle, chunk: int
) -> None:
    with big_cell.served(big_bundle) as server:
        measured = asyncio.run(big_cell.measure(server.address, big_bundle, chunk, rounds=4))
    assert measured.ratio > 1
    assert measured.longest_health_ms > 0


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
