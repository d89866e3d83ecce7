"""The benchmark measures ticks that are right, and runs."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from bench import big_cell, chunks, million, results, streaming, table, wide
from bench.floor import Floor
from bench.row import Aim, Row, at_least, at_most
from tritonclient.grpc import service_pb2 as pb

from tickcell.cli import server_process
from tickcell.model import Bundle
from tickcell.server import record
from tickcell.server.caller import ANYBODY
from tickcell.server.store import SqliteStore


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
    assert measured.stretched.shape == (1,)


@pytest.mark.slow
def test_wide_sessions_are_measured_beside_the_bare_cell() -> None:
    measured = wide.measure(Bundle.load(), rounds=1)
    raw = ["T = 1, 1 in flight", "T = 8, 1 in flight", "T = 8, 2 in flight"]
    assert [each.way for each in measured] == [*raw, "by Session.steps"]
    assert all(each.ratio > 0 for each in measured)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 8])
def test_a_big_cell_gives_the_bits_of_the_plain_loop_together_and_one_by_one(
    big_bundle: Bundle, chunk: int
) -> None:
    with big_cell.served(big_bundle) as server:
        measured = asyncio.run(big_cell.measure(server.address, big_bundle, chunk, rounds=4))
    assert measured.ratio > 0
    assert measured.longest_health_ms > 0


def _bench(project: Path, module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _only(directory: Path) -> results.Run:
    (path,) = directory.glob("*.json")
    return results.read(path)


@pytest.mark.lengthy
def test_benchmark_prints_and_keeps_the_rows_that_are_asked_for(
    project: Path, tmp_path: Path
) -> None:
    said = _bench(project, "bench", "--quick", "--rows", "1,2,9", "--results", str(tmp_path))
    run = _only(tmp_path)
    assert [row.number for row in run.rows] == [1, 2, 9]
    first, second, apart = run.rows
    assert first.value is not None
    assert second.value is not None
    assert min(first.value, second.value) > 0
    assert apart.value is None
    assert run.machine in said
    assert table.show(run.rows[2:]).splitlines()[1] in said
    assert len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.slow
def test_every_row_of_the_benchmark_is_measured(project: Path, tmp_path: Path) -> None:
    _bench(project, "bench", "--quick", "--results", str(tmp_path))
    run = _only(tmp_path)
    assert {row.number for row in run.rows} == {*range(1, 13)}
    for row in run.rows:
        assert (row.number in table.APART) == (row.value is None)


@pytest.mark.lengthy
def test_sessions_are_filled_served_and_measured_beside_a_thousand(
    project: Path, tmp_path: Path
) -> None:
    _bench(
        *(project, "bench.million", "--sessions", "300", "--pairs", "20", "--chunk", "8"),
        *("--results", str(tmp_path)),
    )
    run = _only(tmp_path)
    assert [row.number for row in run.rows] == [9, 9, 9, 9]
    assert all(row.value is not None and row.value > 0 for row in run.rows)
    assert all(row.aim is None for row in run.rows), "fewer than a million have no aim"


@pytest.mark.parametrize("chunk", [1, 8])
def test_filled_sessions_have_all_their_steps_and_the_state_of_the_loop(
    tmp_path: Path, chunk: int
) -> None:
    bundle = Bundle.load()
    sessions = asyncio.run(million.fill(tmp_path / "store", bundle, 3, chunk))
    cell = bundle.cell()
    state = cell.initial_state()
    for frame in bundle.golden.frames[:40]:
        _, state = cell.step(frame, state)
    with contextlib.closing(SqliteStore.open(tmp_path / "store")) as store:
        keys = [ANYBODY.key(session.id) for session in sessions]
        found = [
            record.decode(key, encoded or b"")
            for key, encoded in zip(keys, store.load(keys), strict=True)
        ]
    assert [each.next_step for each in found] == [40, 40, 40]
    assert {bytes(each.state) for each in found} == {state.tobytes()}


@pytest.mark.slow
def test_two_workers_are_measured_beside_one(project: Path, tmp_path: Path) -> None:
    _bench(project, "bench.workers", "--quick", "--results", str(tmp_path))
    (row,) = _only(tmp_path).rows
    assert row.number == 11
    assert row.value is not None
    assert row.value > 0


@pytest.mark.parametrize(
    ("aim", "value", "is_met"),
    [
        (at_most(1.15), 1.15, True),
        (at_most(1.15), 1.16, False),
        (at_least(10), 10.0, True),
        (at_least(10), 9.9, False),
        (None, 1.0, None),
        (at_least(10), None, None),
    ],
)
def test_a_row_says_whether_it_reaches_its_aim(
    aim: Aim | None, value: float | None, is_met: bool | None
) -> None:
    row = Row(1, "a tick", value, aim)
    assert row.is_met is is_met
    said = {True: " yes", False: " no", None: ""}[is_met]
    assert table.show([row]).splitlines()[1].endswith(said or str(aim or "1.00"))


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        Row(1, "a tick", 1.25, at_most(1.15), beside="250 us, bare 200 us"),
        Row(12, "start", 0.4, at_most(0.5), "s"),
        Row(9, "a million", None, beside="run python -m bench.million"),
    ]
    run = results.Run("2026-11-27T0044Z", "2 cores", "0.1 and 0.1", "1.0 and 0.2", rows)
    run.write(tmp_path / "run.json")
    assert results.read(tmp_path / "run.json") == run


def test_unknown_rows_are_named(project: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--rows", "1,13", "--results", str(tmp_path)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'13' is none; expected some of 1 to 12" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("request_id", ["", "frame 12"])
def test_floor_answers_as_a_server_does_but_for_the_numbers(request_id: str) -> None:
    floor = Floor()
    request = pb.ModelInferRequest(
        model_name="drive", model_version="1", id=request_id, raw_input_contents=[bytes(40)]
    ).SerializeToString()
    response = pb.ModelStreamInferResponse.FromString(floor.reply_in_stream(request))
    assert response.infer_response == pb.ModelInferResponse.FromString(floor.reply(request))
    assert response.infer_response.id == request_id
    assert [output.name for output in response.infer_response.outputs] == ["aggressive"]
    statistics = pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(name="drive")])
    (counted,) = pb.ModelStatisticsResponse.FromString(
        floor.counted(statistics.SerializeToString())
    ).model_stats
    assert counted.inference_stats.success.count == 2
