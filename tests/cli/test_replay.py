"""`tickcell replay`: one row per frame, whatever is killed in between."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from doubles.restorable_server import RestorableServer
from tickcell.cli import command_line, comparison, samples
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, errors, unary_calls
from tickcell.client.link import Link
from tickcell.model import LiteRTCell, recording

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample recording as a file, without its labels."""
    path = tmp_path_factory.mktemp("replay") / "drive.csv"
    with path.open("w") as file:
        recording.write_csv(dataclasses.replace(samples.shipped(), labels=None), file)
    return path


@pytest.fixture
def run(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command line in this process; gives status, output and errors."""
    monkeypatch.setenv("TICKCELL_SERVER", server.address)

    def call(*arguments: object) -> tuple[int, str, str]:
        status = command_line.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def spawn(
    server: ServerProcess, *arguments: object, stdin: IO[str] | int | None = None
) -> subprocess.Popen[str]:
    """Starts the command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tickcell.cli", *map(str, arguments)],
        env={**os.environ, "TICKCELL_SERVER": server.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=stdin,
    )


def piped(stream: IO[str] | None) -> IO[str]:
    """Says of a process's stream that it is a pipe."""
    assert stream is not None
    return stream


def wait_for_rows(path: Path, count: int) -> None:
    """Waits until a file has as many rows."""
    deadline = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline, f"{path} does not grow"
        time.sleep(0.005)


# What every replay of the sample as a CSV says.
TIMES = "tickcell: drive.csv: time: column t, in s (guessed from its spacing); 50 Hz\n"


def outputs_in(text: str) -> np.ndarray:
    rows = [line.split(",") for line in text.splitlines()[1:]]
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    return np.array([[float(row[2])] for row in rows], np.float32)


@pytest.fixture(scope="module")
def whole(cell: LiteRTCell) -> np.ndarray:
    """The outputs of the whole sample, by the plain loop."""
    return comparison.loop(cell, samples.shipped().frames)


def test_the_sample_is_replayed_without_a_recording(run: Run, whole: np.ndarray) -> None:
    status, out, err = run("replay", "--fast")
    assert (status, err) == (0, "")
    assert out.startswith("step,t,output,label\n0,0.0,")
    assert outputs_in(out).tobytes() == whole.tobytes()


def test_a_csv_an_npz_and_standard_input_give_the_same_rows(
    run: Run, server: ServerProcess, drive: Path, tmp_path: Path
) -> None:
    npz = tmp_path / "drive.npz"
    sample = samples.shipped()
    np.savez(npz, frames=sample.frames, times=sample.times)
    by_csv, by_npz = run("replay", drive, "--fast"), run("replay", npz, "--fast")
    with drive.open() as file:
        by_pipe = spawn(server, "replay", "-", stdin=file).communicate()
    assert by_csv[0] == by_npz[0] == 0
    assert by_csv[1] == by_npz[1] == by_pipe[0]


def test_the_session_is_deleted_at_the_end(run: Run) -> None:
    run("replay", "--fast", "--session", "short")
    status, _, err = run("sessions", "show", "short")
    assert status == 1
    assert "was deleted" in err


def test_the_session_is_kept_if_asked(run: Run, whole: np.ndarray) -> None:
    run("replay", "--fast", "--session", "kept", "--keep")
    status, out, _ = run("sessions", "show", "kept")
    assert status == 0
    assert f"next step          {len(whole)}\n" in out
    run("sessions", "delete", "kept")


@pytest.fixture
def spoilt(drive: Path, tmp_path: Path) -> Path:
    """A recording of which the first frame is out of its sensor's range."""
    header, first, *rest = drive.read_text().splitlines(keepends=True)
    time_, _, others = first.split(",", 2)
    path = tmp_path / "spoilt.csv"
    path.write_text("".join([header, f"{time_},1e6,{others}", *rest]))
    return path


def test_a_replay_that_fails_before_its_first_step_leaves_no_session(
    run: Run, spoilt: Path
) -> None:
    status, _, err = run("replay", spoilt, "--fast", "--session", "unused")
    assert status == 1
    assert "got 1e+06" in err
    assert "is kept" not in err

    _, _, err = run("sessions", "show", "unused")
    assert "was deleted" in err


def test_a_session_that_cannot_be_deleted_hides_no_error(
    run: Run, spoilt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Session) -> None:
        raise errors.UnavailableError("nobody answers.")

    with monkeypatch.context() as patched:
        patched.setattr(Session, "close", fail)
        status, _, err = run("replay", spoilt, "--fast", "--session", "stuck")

    assert status == 1
    assert "got 1e+06" in err
    assert "session stuck, which has no step, stays on the server: nobody answers." in err
    assert run("sessions", "delete", "stuck")[0] == 0


def test_it_keeps_to_the_pace(run: Run, drive: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("".join(drive.read_text().splitlines(keepends=True)[:21]))
    start = time.monotonic()
    run("replay", short, "--hz", "100")
    assert time.monotonic() - start >= 19 / 100


def test_ctrl_c_keeps_the_session_and_says_how_to_go_on(
    server: ServerProcess, drive: Path, tmp_path: Path, whole: np.ndarray
) -> None:
    out = tmp_path / "outputs.csv"
    process = spawn(server, "replay", drive, "--hz", "500", "--out", out)
    wait_for_rows(out, 20)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    says, way_on = err.strip().splitlines()[-2:]
    assert says.startswith("tickcell: stopped at step ")
    assert way_on.strip().startswith(f"tickcell replay {drive} --hz 500 --out {out} --session ")
    words = [word for word in way_on.split() if word not in ("tickcell", "--hz", "500")]
    process = spawn(server, *words, "--fast")
    assert process.communicate(timeout=60)[1] == TIMES
    assert outputs_in(out.read_text()).tobytes() == whole.tobytes()


def test_a_killed_replay_is_resumed_without_a_gap_or_a_double(
    server: ServerProcess, drive: Path, tmp_path: Path, whole: np.ndarray
) -> None:
    out = tmp_path / "outputs.csv"
    arguments = ["replay", drive, "--out", out, "--session", "killed-replay"]
    for rows in (300, 900, 1800):
        resume = ["--resume"] if rows > 300 else []
        process = spawn(server, *arguments, "--hz", "2000", *resume)
        wait_for_rows(out, rows)
        process.kill()
        process.communicate()
        with out.open("a") as file:
            file.write("1801,36.02,0.")
    process = spawn(server, *arguments, "--fast", "--resume")
    assert process.communicate(timeout=60) == ("", TIMES)
    assert outputs_in(out.read_text()).tobytes() == whole.tobytes()


@pytest.fixture
def restorable() -> Iterator[RestorableServer]:
    # A socket's path must be short.
    with (
        tempfile.TemporaryDirectory(prefix="tickcell-") as directory,
        RestorableServer(Path(directory)) as started,
    ):
        yield started


def test_a_replay_over_a_store_that_is_put_back_says_so_at_its_end(
    restorable: RestorableServer, drive: Path, tmp_path: Path, whole: np.ndarray
) -> None:
    out = tmp_path / "outputs.csv"
    process = spawn(restorable, "replay", drive, "--hz", 200, "--window", 500, "--out", out)
    wait_for_rows(out, 100)
    restorable.back_up()
    wait_for_rows(out, out.read_bytes().count(b"\n") + 100)
    restorable.put_back()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "tickcell: the store was put back to an earlier step 1 time(s); the steps in" in err
    assert outputs_in(out.read_text()).tobytes() == whole.tobytes()


def test_a_replay_is_resumed_on_a_store_that_was_put_back_meanwhile(
    restorable: RestorableServer, drive: Path, tmp_path: Path, whole: np.ndarray
) -> None:
    out = tmp_path / "outputs.csv"
    process = spawn(restorable, "replay", drive, "--hz", 200, "--session", "car", "--out", out)
    wait_for_rows(out, 100)
    restorable.back_up()
    wait_for_rows(out, out.read_bytes().count(b"\n") + 100)
    process.kill()
    process.communicate(timeout=60)
    restorable.put_back()
    command = ("replay", drive, "--fast", "--session", "car", "--out", out, "--resume")
    process = spawn(restorable, *command)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "its store was put back, or it was begun anew; sending the steps in between" in err
    assert outputs_in(out.read_text()).tobytes() == whole.tobytes()


def test_resuming_what_is_through_says_so(run: Run, drive: Path, tmp_path: Path) -> None:
    arguments = ["replay", drive, "--fast", "--session", "through", "--out", tmp_path / "out.csv"]
    assert run(*arguments)[0] == 0
    status, _, err = run(*arguments, "--resume")
    assert status == 0
    assert "the row of each: nothing is left to continue." in err


def test_resuming_what_was_deleted_before_its_rows_were_written_is_refused(
    run: Run, drive: Path, half: Path
) -> None:
    run("sessions", "delete", "half")
    status, _, err = run("replay", drive, "--fast", "--session", "half", "--out", half, "--resume")
    assert status == 1
    assert "half: was deleted after 200 steps" in err


@pytest.fixture
def half(run: Run, drive: Path, tmp_path: Path, server: ServerProcess) -> Iterator[Path]:
    """A session at step 200 with the first 190 rows of its outputs."""
    frames = samples.shipped().frames
    session = Session.create(server.address, "half")
    outputs = session.steps(frames[:200])
    session.detach()
    path = tmp_path / "outputs.csv"
    rows = [f"{step},{step / 50},{outputs[step][0]}\n" for step in range(190)]
    path.write_text("step,t,output\n" + "".join(rows))
    yield path
    with Link(server.address) as link:
        try:
            info = link.do(unary_calls.get_session, "half")
        except errors.SessionEndedError:
            return
        link.do(unary_calls.delete_session, "half", info.generation)


def test_rows_that_the_window_still_holds_are_made_up_for(
    run: Run, drive: Path, half: Path, whole: np.ndarray
) -> None:
    status, _, err = run("replay", drive, "--fast", "--session", "half", "--out", half, "--resume")
    assert (status, err) == (0, TIMES)
    assert outputs_in(half.read_text()).tobytes() == whole.tobytes()


def test_another_recording_is_refused_by_its_content(
    run: Run, drive: Path, half: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    sample = samples.shipped()
    reversed_ = dataclasses.replace(sample, frames=sample.frames[::-1])
    with other.open("w") as file:
        recording.write_csv(reversed_, file)
    before = half.read_bytes()
    status, _, err = run("replay", other, "--fast", "--session", "half", "--out", half, "--resume")
    assert status == 1
    assert f"tickcell: {other}: is not the recording of half: " in err
    assert half.read_bytes() == before


def test_another_file_of_rows_is_refused_by_its_content(run: Run, drive: Path, half: Path) -> None:
    half.write_text(half.read_text().replace("\n180,3.6,", "\n180,3.6,1"))
    status, _, err = run("replay", drive, "--fast", "--session", "half", "--out", half, "--resume")
    assert status == 1
    assert "step 180: the row has" in err


def test_rows_that_have_left_the_window_cannot_be_made_up_for(
    run: Run, drive: Path, half: Path
) -> None:
    half.write_text("".join(half.read_text().splitlines(keepends=True)[:101]))
    status, _, err = run("replay", drive, "--fast", "--session", "half", "--out", half, "--resume")
    assert status == 1
    assert "is at step 200" in err
    assert "the rows end at step 100" in err


def test_a_session_that_was_begun_anew_goes_over_all_of_its_rows_again(
    run: Run, drive: Path, half: Path, server: ServerProcess, whole: np.ndarray
) -> None:
    session = Session.attach(server.address, "half")
    session.reset()
    session.detach()
    status, _, err = run("replay", drive, "--fast", "--session", "half", "--out", half, "--resume")
    assert status == 0
    assert "half: is at step 0, but the rows end at step 190: its store was put back" in err
    assert outputs_in(half.read_text()).tobytes() == whole.tobytes()


def test_rows_beyond_the_session_that_are_another_s_are_refused(
    run: Run, drive: Path, half: Path, server: ServerProcess
) -> None:
    session = Session.attach(server.address, "half")
    session.reset()
    session.detach()
    half.write_text(half.read_text().replace("\n100,2.0,", "\n100,2.0,1"))
    before = half.read_bytes()
    status, _, err = run("replay", drive, "--fast", "--session", "half", "--out", half, "--resume")
    assert status == 1
    assert "step 100: the row has" in err
    assert half.read_bytes() == before


def test_a_recording_shorter_than_the_session_is_another_one(
    run: Run, drive: Path, half: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.csv"
    short.write_text("".join(drive.read_text().splitlines(keepends=True)[:100]))
    status, _, err = run("replay", short, "--fast", "--session", "half", "--out", half, "--resume")
    assert status == 1
    assert "the recording has 99 frames" in err


def test_a_rate_that_is_not_the_model_s_is_noted(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "slow.npz"
    np.savez(path, frames=samples.shipped().frames[:20], times=np.arange(20) / 10)
    _, _, err = run("replay", path, "--fast")
    assert "slow.npz: has a rate of 10 Hz, but drive was trained at 50 Hz" in err


def test_a_resampled_recording_has_the_model_s_rate(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fast.npz"
    np.savez(path, frames=samples.shipped().frames[:200], times=np.arange(200) / 100)
    status, out, err = run("replay", path, "--fast", "--resample")
    assert status == 0
    assert "fast.npz: resampled from 100 Hz to 50 Hz" in err
    assert out.splitlines()[2].startswith("1,0.02,")


def test_columns_that_no_sensor_asked_for_are_noted(run: Run, drive: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    lines = drive.read_text().splitlines()[:5]
    path.write_text("\n".join([f"{lines[0]},mood"] + [f"{line},good" for line in lines[1:]]))
    _, _, err = run("replay", path, "--fast")
    assert "more.csv: ignores the columns mood" in err


@pytest.mark.parametrize("is_live", [False, True])
def test_labels_stand_beside_the_outputs_when_their_column_is_named(
    is_live: bool, server: ServerProcess, tmp_path: Path
) -> None:
    sample = samples.shipped()
    path = tmp_path / "labelled.csv"
    with path.open("w") as file:
        recording.write_csv(dataclasses.replace(sample, label_name="harsh"), file)
    with path.open() as file:
        process = spawn(
            server, "replay", "-" if is_live else path, "--fast", "--label", "harsh", stdin=file
        )
        out, err = process.communicate()
    assert process.returncode == 0, err
    header, *rows = out.splitlines()
    assert header == "step,t,output,label"
    assert sample.labels is not None
    assert [float(row.rpartition(",")[2]) for row in rows] == sample.labels.tolist()


def test_a_column_of_labels_that_is_not_there_is_named(run: Run, drive: Path) -> None:
    status, out, err = run("replay", drive, "--fast", "--label", "harsh")
    assert (status, out) == (1, "")
    assert "no column is named 'harsh'" in err


def test_a_dropout_is_an_error_or_held_and_counted(run: Run, drive: Path, tmp_path: Path) -> None:
    path = tmp_path / "hole.csv"
    lines = drive.read_text().splitlines()[:9]
    cells = lines[5].split(",")
    lines[5] = ",".join([*cells[:3], "nan", *cells[4:]])
    path.write_text("\n".join(lines))
    status, _, err = run("replay", path, "--fast")
    assert status == 1
    assert "row 6" in err
    status, out, err = run("replay", path, "--fast", "--on-dropout", "hold")
    assert status == 0
    assert len(out.splitlines()) == 9
    assert "1 readings dropped out: lin_acc_z 1" in err


def test_a_gap_stops_the_replay_and_resuming_goes_on_over_it(
    run: Run, whole: np.ndarray, drive: Path, tmp_path: Path
) -> None:
    path, rows = tmp_path / "gap.csv", tmp_path / "rows.csv"
    first, *lines = drive.read_text().splitlines()[:1201]
    later = [
        ",".join([str(float(line.partition(",")[0]) + 5), line.partition(",")[2]])
        for line in lines[1000:]
    ]
    path.write_text("\n".join([first, *lines[:1000], *later]))
    asked = ("replay", path, "--fast", "--out", rows, "--session", "gap")

    status, _, err = run(*asked)

    assert status == 1
    assert "gap.csv: row 1002: nothing for 5.02 s, 251 periods, expected at most 10" in err
    assert (
        "stopped at step 1000; session gap is kept; with the row mended, or an option for it, "
        "continue with:"
    ) in err
    status, _, err = run(*asked, "--resume", "--on-gap", "keep")
    assert status == 0
    assert "gap.csv: gaps: 1 were kept; the longest took 5.02 s" in err
    assert outputs_in(rows.read_text()).tobytes() == whole[:1200].tobytes()


def test_the_plot_is_a_png(run: Run, drive: Path, tmp_path: Path) -> None:
    path = tmp_path / "replay.png"
    assert run("replay", drive, "--fast", "--plot", path)[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fast", "--hz", "50"], "exclude each other"),
        (["--resume"], "--resume needs --session and --out"),
        (["-", "--plot", "x.png"], "--plot needs a recording in a file"),
        (["-", "--resample"], "--resample needs a recording in a file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Run, arguments: list[str], message: str
) -> None:
    status, _, err = run("replay", *arguments)
    assert status == 2
    assert message in err


def test_an_output_that_nobody_reads_ends_it(server: ServerProcess, drive: Path) -> None:
    process = spawn(server, "replay", drive, "--fast")
    assert piped(process.stdout).readline() == "step,t,output\n"
    piped(process.stdout).close()
    process.wait(timeout=30)
    err = piped(process.stderr).read()
    piped(process.stderr).close()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "is kept" in err


def test_rows_from_a_pipe_come_before_the_next_frame(server: ServerProcess, drive: Path) -> None:
    lines = drive.read_text().splitlines(keepends=True)
    process = spawn(server, "replay", "-", stdin=subprocess.PIPE)
    with process:
        piped(process.stdin).write(lines[0])
        piped(process.stdin).flush()
        assert piped(process.stdout).readline() == "step,t,output\n"
        for step in range(5):
            piped(process.stdin).write(lines[step + 1])
            piped(process.stdin).flush()
            assert piped(process.stdout).readline().startswith(f"{step},")
    assert process.returncode == 0


def test_ctrl_c_while_a_pipe_is_silent_ends_it(server: ServerProcess, drive: Path) -> None:
    lines = drive.read_text().splitlines(keepends=True)
    process = spawn(server, "replay", "-", "--session", "silent", stdin=subprocess.PIPE)
    with process:
        piped(process.stdin).writelines(lines[:2])
        piped(process.stdin).flush()
        piped(process.stdout).readline()
        assert piped(process.stdout).readline().startswith("0,")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert "tickcell sessions delete silent" in piped(process.stderr).read()


def test_a_server_that_stays_away_keeps_the_rows_and_says_how_to_go_on(
    mortal_server: ServerProcess, drive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "outputs.csv"
    process = spawn(mortal_server, "replay", drive, "--hz", "500", "--out", out)
    wait_for_rows(out, 20)
    mortal_server.kill()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    rows = out.read_text().count("\n") - 1
    assert f"stopped at step {rows}; session " in err
    assert "Traceback" not in err
