"""The command line: what it prints, and how it ends."""

from __future__ import annotations

import dataclasses
import importlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from doubles.counted_source import wait_until
from doubles.in_process_server import InProcessServer
from tickcell.cli import command_line, samples
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session, unary_calls
from tickcell.client.link import Link
from tickcell.model import Bundle, LiteRTCell, recording
from tickcell.server.catalogue import ServedModel

TRAINING = [name for name, place in command_line.COMMANDS.items() if place.extra == "train"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; gives status, output and errors."""
    monkeypatch.delenv("TICKCELL_SERVER", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        status = command_line.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def short_bundle(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle with a short golden, as a directory."""
    return write_bundle(bundle, tmp_path_factory, bundle.golden.outputs[:200])


def test_sessions_are_taken_over_copied_and_moved(
    run: Run, server: ServerProcess, frames: np.ndarray, tmp_path: Path
) -> None:
    at = ("--server", server.address)
    with Session.create(server.address, "car-8") as session:
        session.steps(frames[:4])
        claimed = run("sessions", "claim", "car-8", *at)[1]
        assert "next step          4\n" in claimed
        assert f"generation         {session.info.generation}\n" not in claimed
        fork = run("sessions", "fork", "car-8", "car-8b", "--step", "4", *at)[1]
        assert "session            car-8b\n" in fork
        assert "origin             step 4\n" in fork
        status, _, complaint = run("sessions", "fork", "car-8", "--step", "3", *at)
        assert status == 1
        assert "got step 3, but the session is at 4 already" in complaint
        outputs = run("sessions", "outputs", "car-8", *at)[1].splitlines()
        assert [line.split()[0] for line in outputs] == ["STEP", "0", "1", "2", "3"]
        file = tmp_path / "car-8.session"
        assert run("sessions", "export", "car-8", file, "--end", *at)[1] == (
            f"exported and ended car-8 to {file}\n"
        )
        assert "already exists" in run("sessions", "export", "car-8b", file, *at)[2]
        assert "was exported and ended" in run("sessions", "show", "car-8", *at)[2]
        imported = run("sessions", "import", file, "car-8", *at)[1]
        assert "next step          4\n" in imported
        status, _, complaint = run("sessions", "migrate", "car-8", "1", *at)
        assert status == 1
        assert "expected a version other than the session's" in complaint
        assert run("sessions", "delete", "car-8", "car-8b", *at)[0] == 0
    torn = tmp_path / "torn"
    torn.write_bytes(file.read_bytes()[:-1])
    assert "the file was cut off" in run("sessions", "import", torn, *at)[2]


def write_bundle(
    bundle: Bundle, factory: pytest.TempPathFactory, outputs: np.ndarray, first: int = 0
) -> Path:
    path = factory.mktemp("bundle") / "short"
    end = first + len(outputs)
    labels = bundle.golden.labels
    golden = dataclasses.replace(
        bundle.golden,
        frames=bundle.golden.frames[first:end],
        outputs=outputs,
        labels=None if labels is None else labels[first:end],
    )
    dataclasses.replace(bundle, golden=golden).write(path)
    return path


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version") == (0, f"tickcell {importlib.metadata.version('tickcell')}\n", "")


def test_help_lists_every_command(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert [name for name in command_line.COMMANDS if f"\n  {name} " not in out] == []


@pytest.mark.parametrize("name", [name for name in command_line.COMMANDS if name not in TRAINING])
def test_every_command_has_help_with_its_lines_kept(run: Run, name: str) -> None:
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "")
    assert "\\b" not in out


@pytest.mark.parametrize("name", TRAINING)
def test_every_training_command_has_help(name: str) -> None:
    # In a process of its own, since TensorFlow is not to be in this one.
    done = subprocess.run(
        [sys.executable, "-m", "tickcell.cli", name, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\\b" not in done.stdout


def test_an_unknown_command_is_a_matter_of_usage(run: Run) -> None:
    status, _, err = run("dance")
    assert status == 2
    assert "No such command 'dance'" in err


def test_where_no_server_answers_it_says_how_to_start_one(run: Run, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/nobody"
    assert run("models", "list", "--server", address) == (
        1,
        "",
        f"tickcell: {address}: no server answers; start one with: tickcell serve\n",
    )


def test_a_missing_extra_is_named_with_its_command(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apsw", None)
    monkeypatch.delitem(sys.modules, "tickcell.server.store.commands", raising=False)
    for name in [name for name in sys.modules if name.startswith("tickcell.server")]:
        monkeypatch.delitem(sys.modules, name)
    status, _, err = run("store", "inspect", "nowhere")
    assert status == 1
    assert err == "tickcell: apsw is not installed; run: pip install 'tickcell[server]'\n"


def test_a_file_that_is_not_there_is_one_sentence(run: Run, server: ServerProcess) -> None:
    status, _, err = run("replay", "no-such-file.csv", "--server", server.address)
    assert status == 1
    assert err == "tickcell: no-such-file.csv: cannot be read: No such file or directory.\n"


def test_a_model_that_is_not_served_is_told_with_the_way_out(
    run: Run, server: ServerProcess
) -> None:
    status, _, err = run("replay", "--fast", "--model", "gait:7", "--server", server.address)
    assert status == 1
    assert "served are: drive 1. Name one with --model NAME[:VERSION]." in err


def test_the_sample_reads_back_as_the_golden(run: Run, bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "drive.csv"
    path.write_text(run("sample")[1])
    read = recording.read(
        path, bundle.interface.sensors, recording.Layout(label=bundle.interface.output_names[0])
    )
    assert read.frames.tobytes() == bundle.golden.frames.tobytes()
    assert np.asarray(read.labels).tolist() == np.asarray(samples.shipped().labels).tolist()


def test_models_are_listed_and_shown(run: Run, server: ServerProcess, bundle: Bundle) -> None:
    listed = run("models", "list", "--server", server.address)[1].splitlines()
    assert listed[0].split()[:2] == ["MODEL", "VERSION"]
    assert listed[1].split()[:2] == [bundle.card.name, bundle.card.version]
    shown = run("models", "show", "--server", server.address)[1]
    assert bundle.fingerprint in shown
    assert [each.name for each in bundle.interface.sensors if each.name not in shown] == []


def test_sessions_are_listed_shown_reset_and_deleted(
    run: Run, server: ServerProcess, frames: np.ndarray
) -> None:
    session = Session.create(server.address, "car-7", labels={"owner": "test"})
    session.steps(frames[:40])
    session.detach()
    at = ("--server", server.address)
    assert "\ncar-7  " in run("sessions", "list", *at)[1]
    shown = run("sessions", "show", "car-7", *at)[1]
    assert "next step          40\n" in shown
    assert "label owner        test\n" in shown
    assert "next step          0\n" in run("sessions", "reset", "car-7", *at)[1]
    assert run("sessions", "delete", "car-7", *at)[1] == "deleted car-7 at step 0\n"
    assert run("sessions", "delete", "car-7", *at)[0] == 1


def test_the_demonstration_shows_that_nothing_shows(run: Run, short_bundle: Path) -> None:
    status, out, _ = run("demo", "--bundle", short_bundle)
    assert status == 0
    assert "kill -9 " in out
    assert out.splitlines()[-1].endswith("; 0 of 200 outputs differ")


def test_the_promise_is_verified_on_the_golden(run: Run, short_bundle: Path) -> None:
    status, out, _ = run("verify", "--no-keras", "--bundle", short_bundle)
    lines = out.splitlines()
    assert status == 0
    assert lines[1].strip() == "up to 8 steps of a chunk in one call of the cell"
    assert [line.split()[0] for line in lines[2:6]] == ["ok"] * 4
    assert "tick by tick   Keras over the whole sequence" in out


def test_the_promise_is_verified_on_a_recording(
    run: Run, server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "drive.npz"
    np.savez(path, frames=samples.shipped().frames[:150], times=np.arange(150) / 50)
    status, out, _ = run("verify", path, "--no-keras", "--server", server.address)
    assert status == 0
    assert "drive.npz itself was not compared with Keras" in out


def test_outputs_that_are_not_keras_s_fail(
    run: Run, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wrong = bundle.golden.outputs[:100] + np.float32(1e-3)
    path = write_bundle(bundle, tmp_path_factory, wrong)
    status, out, _ = run("verify", "--no-keras", "--bundle", path)
    assert status == 1
    assert "DIFFERS tick by tick   Keras" in out


class OtherMachine(LiteRTCell):
    """A cell that says that it computes other last bits than this machine does."""

    numerics_digest = "00000000c0117e57"


def test_another_machine_s_bits_are_compared_by_tolerance(
    run: Run, bundle: Bundle, short_bundle: Path
) -> None:
    cell = OtherMachine(bundle.step_graph, bundle.interface, bundle.golden.frames)
    model = ServedModel.of(bundle.card, cell, bundle.fingerprint)
    with InProcessServer([model]) as server:
        status, out, _ = run(
            "verify", "--no-keras", "--bundle", short_bundle, "--server", server.address
        )
    assert "the server computes different last bits" in out
    assert "all 200 equal to the bit" in out
    assert status == 0


def test_another_model_of_the_same_name_is_not_verified(
    run: Run, server: ServerProcess, bundle: Bundle, tmp_path: Path
) -> None:
    (first, *others) = bundle.interface.sensors
    sensors = (dataclasses.replace(first, name="other"), *others)
    interface = dataclasses.replace(bundle.interface, sensors=sensors)
    dataclasses.replace(bundle, interface=interface).write(tmp_path / "other")
    status, _, err = run("verify", "--bundle", tmp_path / "other", "--server", server.address)
    assert status == 1
    assert "name the bundle that is served by --bundle" in err


def test_the_agent_says_how_harsh_late_and_long_the_drive_was(
    run: Run, server: ServerProcess, tmp_path: Path
) -> None:
    plot = tmp_path / "agent.png"
    status, out, err = run("agent", "--server", server.address, "--seconds", "5", "--plot", plot)
    lines = out.splitlines()
    assert status == 0, err
    assert [line[:12].strip() for line in lines[1:4]] == ["never eased", "agent", "always eased"]
    assert "p99" in lines[4]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_agent_drives_several_cars_that_tick_together(run: Run, server: ServerProcess) -> None:
    status, out, err = run("agent", "--server", server.address, "--seconds", "3", "--cars", "3")
    lines = out.splitlines()
    assert status == 0, err
    assert lines[0] == "means of drives 1 to 3"
    assert [line[:12].strip() for line in lines[2:5]] == ["never eased", "agent", "always eased"]


def test_the_agent_keeps_to_the_clock(run: Run, server: ServerProcess) -> None:
    status, out, _ = run(
        *("agent", "--server", server.address, "--seconds", "2", "--realtime", "--hz", "200")
    )
    assert status == 0
    assert "ticks late at 200 Hz" in out


@pytest.mark.parametrize("clock", [[], ["--realtime"]], ids=["fast", "realtime"])
def test_ctrl_c_ends_the_agent_and_its_session_with_a_word(
    server: ServerProcess, clock: list[str]
) -> None:
    with Link(server.address) as link:
        others = {each.id for each in link.do(unary_calls.list_sessions)}
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tickcell.cli", "agent", "--server", server.address),
            *("--seconds", "3600", *clock),
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        with Link(server.address) as link:
            wait_until(
                lambda: [
                    each
                    for each in link.do(unary_calls.list_sessions)
                    if each.id not in others and each.next_step > 5
                ]
            )
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert re.search(r"tickcell: stopped after \d+ ticks; session \S+ is deleted\n", err)
        with Link(server.address) as link:
            assert {each.id for each in link.do(unary_calls.list_sessions)} == others


def test_the_agent_refuses_a_model_of_other_sensors(
    run: Run, bundle: Bundle, tmp_path: Path
) -> None:
    from tickcell.cli import server_process

    sensors = tuple(
        dataclasses.replace(sensor, name=f"my_{sensor.name}") for sensor in bundle.interface.sensors
    )
    interface = dataclasses.replace(bundle.interface, sensors=sensors)
    dataclasses.replace(bundle, interface=interface).write(tmp_path / "other")
    with server_process.temporary("--bundle", str(tmp_path / "other")) as server:
        agent = run("agent", "--server", server.address)
        replay = run("replay", "--server", server.address)
    assert "does not have the simulated car's sensors" in agent[2]
    assert "name a RECORDING" in replay[2]


def test_an_address_that_cannot_be_one_is_refused(run: Run) -> None:
    status, _, err = run("agent", "--server", "nowhere")
    assert status == 1
    assert "expected HOST:PORT or unix:PATH" in err


def test_a_program_that_imports_the_client_needs_no_server_and_no_plots() -> None:
    source = "import sys, tickcell.client; print({'apsw', 'matplotlib', 'tqdm'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
