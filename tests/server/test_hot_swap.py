"""Models come and go under live streams: real servers, directories exchanged by symlink.

What a session is pinned to never changes under it: its outputs are those of the plain loop
of the version that it was created with.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from databases import Databases
from doubles.bundle_variant import variant
from server.serve_process import PATIENCE_S, ServeProcess, complaint
from tickcell.cli import command_line, comparison
from tickcell.client import Session, errors, unary_calls
from tickcell.client.link import Link
from tickcell.model import Bundle

ANY_PORT = ("--listen", "localhost:0")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """The contents of versions 1 and 2, outside of any repository."""
    directory = tmp_path_factory.mktemp("versions")
    bundle = Bundle.load()
    bundle.write(directory / "1")
    variant(bundle, "2").write(directory / "2")
    return {version: directory / version for version in "12"}


@pytest.fixture(scope="module")
def frames() -> NDArray[np.float32]:
    return Bundle.load().golden.frames


@pytest.fixture
def models(tmp_path: pathlib.Path, versions: dict[str, pathlib.Path]) -> pathlib.Path:
    """A repository with version 1."""
    directory = tmp_path / "models"
    put(directory, versions, "1")
    return directory


def put(directory: pathlib.Path, versions: dict[str, pathlib.Path], version: str) -> None:
    """Puts a version in its place at one moment."""
    (directory / "drive").mkdir(parents=True, exist_ok=True)
    (directory / "drive" / ".new").symlink_to(versions[version])
    (directory / "drive" / ".new").rename(directory / "drive" / version)


@contextlib.contextmanager
def serving(
    models: pathlib.Path, store: pathlib.Path | str, *arguments: str
) -> Iterator[ServeProcess]:
    """Runs a server of a repository, which stops as it should in the end."""
    control = () if "--model-control" in arguments else ("--model-control", "watch")
    server = ServeProcess(
        *ANY_PORT, "--store", str(store), "--models", str(models), *control, *arguments
    )
    with server:
        yield server


def states(address: str) -> dict[str, str]:
    """How the versions stand at a server, with a star at the one that new sessions get."""
    with Link(address) as link:
        return {
            each.version: each.state + "*" * each.is_default
            for each in link.do(unary_calls.list_model_versions)
        }


def until(condition: Callable[[], bool]) -> None:
    """Waits for what must come about."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


class Robot(threading.Thread):
    """A session that steps on and on, over one stream after another, at all servers in turn.

    Attributes:
      version: that its session is pinned to.
    """

    def __init__(
        self, addresses: list[str], frames: NDArray[np.float32], period_s: float, **wanted: str
    ) -> None:
        super().__init__()
        session = Session.create(addresses[0], **wanted)  # type: ignore[arg-type]
        session.detach()
        self.id, self.version = session.id, session.info.model_version
        self._addresses, self._frames, self._period_s = addresses, frames, period_s
        self._outputs: list[NDArray[np.float32]] = []
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self.start()

    @property
    def step_count(self) -> int:
        return len(self._outputs)

    def run(self) -> None:
        try:
            for address in itertools.cycle(self._addresses):
                session = Session.attach(address, self.id)
                for output in session.stream(self._paced(20)):
                    self._outputs.append(output)
                session.detach()
                if self._stopping.is_set():
                    return
        except BaseException as failure:
            self._failure = failure
            raise

    def _paced(self, count: int) -> Iterator[NDArray[np.float32]]:
        start = len(self._outputs)
        for step in range(start, start + count):
            if self._stopping.wait(self._period_s):
                return
            yield self._frames[step % len(self._frames)]

    def stop(self) -> None:
        """Stops after the step that it is at."""
        self._stopping.set()
        self.join(PATIENCE_S)

    def finish(self, versions: dict[str, pathlib.Path]) -> None:
        """Stops, and holds all outputs to the plain loop of the session's version."""
        self.stop()
        assert not self.is_alive()
        assert self._failure is None
        steps = np.arange(len(self._outputs)) % len(self._frames)
        expected = comparison.loop(Bundle.load(versions[self.version]).cell(), self._frames[steps])
        assert np.stack(self._outputs).tobytes() == expected.tobytes()


MakeRobot = Callable[..., Robot]


@pytest.fixture
def robot(frames: NDArray[np.float32]) -> Iterator[MakeRobot]:
    """Makes robots, and stops at the end what is left of them."""
    made: list[Robot] = []

    def make(*addresses: str, period_s: float = 0.01, **wanted: str) -> Robot:
        made.append(Robot(list(addresses), frames, period_s, **wanted))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_exchanged_config_map_brings_a_version_and_live_sessions_keep_theirs(
    tmp_path: pathlib.Path, versions: dict[str, pathlib.Path], robot: MakeRobot
) -> None:
    mount = tmp_path / "mount"
    for name, held in (("..first", "1"), ("..second", "12")):
        for version in held:
            shutil.copytree(versions[version], mount / name / "drive" / version)
    (mount / "..data").symlink_to("..first")
    (mount / "drive").symlink_to("..data/drive")
    with serving(mount, tmp_path / "store") as server:
        old = robot(server.address)
        (mount / "..new").symlink_to("..second")
        (mount / "..new").rename(mount / "..data")
        shutil.rmtree(mount / "..first")
        until(lambda: states(server.address) == {"1": "ready", "2": "ready*"})
        new = robot(server.address)
        pinned = robot(server.address, model="drive", model_version="1")
        until(lambda: min(old.step_count, new.step_count, pinned.step_count) > 50)
        assert (old.version, new.version, pinned.version) == ("1", "2", "1")
        for each in (old, new, pinned):
            each.finish(versions)


def test_half_copied_version_harms_nobody_and_is_taken_when_it_is_whole(
    models: pathlib.Path,
    versions: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    robot: MakeRobot,
) -> None:
    with serving(models, tmp_path / "store") as server:
        mover = robot(server.address)
        target = models / "drive" / "2"
        shutil.copytree(versions["2"], target)
        os.truncate(target / "step.tflite", 1000)
        until(lambda: states(server.address) == {"1": "ready*", "2": "broken"})
        shutil.copy(versions["2"] / "step.tflite", target)
        until(lambda: states(server.address) == {"1": "ready", "2": "ready*"})
        mover.finish(versions)
        status, log = server.end()
    assert status == 0
    assert log.count("drive 2 is not loaded") == 1


def test_version_that_is_removed_while_sessions_hold_it_goes_on_from_memory(
    models: pathlib.Path,
    versions: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    robot: MakeRobot,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(models, versions, "2")
    with serving(models, tmp_path / "store") as server:
        mover = robot(server.address, model="drive", model_version="1")
        (models / "drive" / "1").unlink()
        until(lambda: states(server.address)["1"] == "retired")
        steps = mover.step_count
        until(lambda: mover.step_count > steps + 20)
        with pytest.raises(errors.ModelUnknownError, match=r"drive 1 is not served.*: drive 2"):
            Session.create(server.address, model="drive", model_version="1")
        until(lambda: "they continue from memory" in shown(server.address, capsys))
        assert ["drive", "1", "retired", "1"] in [
            line.split()[:4] for line in shown(server.address, capsys).splitlines()
        ]
        mover.finish(versions)
        status, log = server.end()
    assert status == 0
    assert log.count("drive 1 gets no new sessions: its directory is gone") == 1
    assert log.count("they continue from memory") == 1


def shown(address: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `tickcell models list` shows."""
    capsys.readouterr()
    assert command_line.main(["models", "list", "--server", address]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("control", ["none", "watch", "explicit"])
def test_session_waits_for_its_version_to_be_put_back(
    models: pathlib.Path,
    versions: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    frames: NDArray[np.float32],
    control: str,
) -> None:
    arguments = ("--model-control", control)
    loads = ("--load-model", "drive") if control == "explicit" else ()
    expected = comparison.loop(Bundle.load(versions["1"]).cell(), frames[:2])
    with serving(models, tmp_path / "store", *arguments, *loads) as server:
        session = Session.create(server.address)
        assert session.step(frames[0]) == expected[0]
        session.detach()
        server.end(signal.SIGKILL)
    (models / "drive" / "1").unlink()
    with serving(models, tmp_path / "store", *arguments) as server:
        hasty = Session.attach(server.address, session.id, retry_for_s=0.5)
        with pytest.raises(errors.ModelNotServedError, match="is not served here") as refused:
            hasty.step(frames[1])
        hasty.detach()
        assert refused.value.retry_s == 1.0
        late = threading.Timer(1.5, put, [models, versions, "1"])
        late.start()
        with Session.attach(server.address, session.id) as again:
            assert again.step(frames[1]) == expected[1]
        late.join()


@pytest.mark.parametrize(
    ("robot_count", "late_s"), [(4, 1.0), pytest.param(50, 5.0, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("is_in_postgresql", [False, True])
def test_server_that_is_late_to_see_a_version_delays_new_sessions_and_breaks_none(
    versions: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    robot: MakeRobot,
    robot_count: int,
    late_s: float,
    is_in_postgresql: bool,
    databases: Databases,
) -> None:
    store = databases.new() if is_in_postgresql else tmp_path / "store"
    repositories = [tmp_path / "first", tmp_path / "second"]
    for models in repositories:
        put(models, versions, "1")
    period_s = 0.004 * robot_count
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(models, store)) for models in repositories]
        early, late = (server.address for server in servers)
        robots = [
            robot(*([early, late] if index % 2 else [late, early]), period_s=period_s)
            for index in range(robot_count)
        ]
        put(repositories[0], versions, "2")
        until(lambda: states(early) == {"1": "ready*", "2": "ready"})
        # Whoever names it gets it, and waits where it has not come yet.
        robots.append(robot(early, late, period_s=period_s, model="drive", model_version="2"))
        # Whoever does not gets what all servers have, for as long as that lasts.
        until_s = time.monotonic() + late_s
        while time.monotonic() < until_s:
            robots.append(robot(early, late, period_s=period_s))
            assert robots[-1].version == "1"
            time.sleep(late_s / 5)
        put(repositories[1], versions, "2")
        for address in (early, late):
            until(functools.partial(serves_the_newest, address))
            robots.append(robot(address, early, late, period_s=period_s))
            assert robots[-1].version == "2"
        steps = [each.step_count for each in robots]
        until(
            lambda: all(
                each.step_count >= before + 45 for each, before in zip(robots, steps, strict=True)
            )
        )
        for each in robots:
            each.finish(versions)
        for server, most_errors in zip(servers, (0, 1), strict=True):
            status, log = server.end()
            assert status == 0
            # The late one says once that a session is pinned to what it does not have.
            said = [line for line in log.splitlines() if " ERROR tickcell.server.model_" in line]
            assert len(said) <= most_errors
            assert all("drive 2 (" in line and "is not in the repository" in line for line in said)


def serves_the_newest(address: str) -> bool:
    return states(address) == {"1": "ready", "2": "ready*"}


def test_operator_loads_and_unloads_by_command(
    models: pathlib.Path,
    versions: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    robot: MakeRobot,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(models, tmp_path / "store", "--model-control", "explicit") as server:

        def run(*words: str) -> tuple[int, str]:
            capsys.readouterr()
            status = command_line.main(["models", *words, "--server", server.address])
            out, err = capsys.readouterr()
            return status, out + err

        assert states(server.address) == {"1": "available"}
        with pytest.raises(errors.ModelUnknownError, match="served are: none"):
            Session.create(server.address)
        status, said = run("load", "drive")
        assert (status, said.startswith("drive 1: new sessions get it (")) == (0, True)
        put(models, versions, "2")
        mover = robot(server.address)
        assert run("load", "drive")[1].startswith("drive 2: new sessions get it (")
        assert run("unload", "drive", "1") == (
            0,
            "drive 1: no new sessions get it; live sessions that still use it: 1\n",
        )
        assert states(server.address) == {"1": "retired", "2": "ready*"}
        mover.finish(versions)
        status, said = run("load", "road")
        assert status == 1
        assert said == ("tickcell: model road is not in the repository; served are: drive 2.\n")
    with serving(models, tmp_path / "store", "--model-control", "explicit") as server:
        # What sessions are pinned to is there again by itself.
        until(lambda: states(server.address) == {"1": "retired", "2": "available"})


class TestStart:
    def test_banner_names_the_repository(
        self, models: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        with serving(models, tmp_path / "store") as server:
            assert server.banner[1].startswith("  model  drive 1: 10 sensors")
            assert server.banner[2] == f"  models {models}, model control watch"

    def test_empty_repository_is_served_until_something_comes(
        self, versions: dict[str, pathlib.Path], tmp_path: pathlib.Path
    ) -> None:
        (tmp_path / "models").mkdir()
        with serving(tmp_path / "models", tmp_path / "store") as server:
            put(tmp_path / "models", versions, "1")
            until(lambda: states(server.address) == {"1": "ready*"})

    def test_repository_that_is_not_there_is_refused(self, tmp_path: pathlib.Path) -> None:
        said = complaint(*ANY_PORT, "--durability", "none", "--models", str(tmp_path / "none"))
        assert said == (
            f"{tmp_path / 'none'}: cannot be read: No such file or directory; name a directory of "
            "models with --models."
        )
