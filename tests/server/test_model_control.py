"""Models come and go while sessions are pinned to them; with a clock of the test's."""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from doubles.bundle_variant import variant
from server.serve_process import resident_bytes
from server.world import in_loop
from tickcell.model import Bundle
from tickcell.server import errors, model_versions
from tickcell.server.caller import ANYBODY, Caller
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.config import Control
from tickcell.server.in_slices import InSlices
from tickcell.server.model_control import RETRY_S, ModelControl
from tickcell.server.model_needs import LINGER_S
from tickcell.server.model_versions import State
from tickcell.server.observer import Observer
from tickcell.server.repository import SETTLING_S, Look, Repository, RepositoryError
from tickcell.server.store import Change, Key, MemoryStore, Pin, Served

# The fingerprints of three contents, which nothing but their weights tells apart.
A, B, C = "abc"
FACTORS = {A: 1.0, B: 0.5, C: 0.25}


class SharedStore(MemoryStore):
    """A store with other servers, which announce what a test says.

    Attributes:
      others: what they serve.
      announced: what was announced to them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.others: list[Served] = []
        self.announced: Served | None = None

    def announce(self, served: Served) -> None:
        self.announced = served

    def peers(self) -> list[Served]:
        return self.others


async def at_once(work: Callable[[], Any]) -> Any:
    """Does what the driver would do in a slice."""
    return work()


class Hearing(Observer):
    """Notes how often it hears that models are missing."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[dict[Pin, int]] = []

    def models_are_missing(self, missing: Mapping[Pin, int]) -> None:
        super().models_are_missing(missing)
        self.heard.append(dict(missing))


class Scene:
    """A repository, and a server that looks at it when the test says.

    Attributes:
      directory: the repository's.
    """

    def __init__(self, directory: pathlib.Path, contents: Mapping[str, Bundle]) -> None:
        self.directory = directory
        self.contents = contents
        self.letters = {bundle.fingerprint: letter for letter, bundle in contents.items()}
        self.store = SharedStore()
        self.kept = InSlices(self.store, at_once)
        self.observer = Hearing()
        self.now_s = 1000.0
        self._sessions = 0
        directory.mkdir(exist_ok=True)

    def put(self, version: str, content: str, name: str = "drive") -> pathlib.Path:
        """Puts a content in a version's place, in one go."""
        path = self.directory / name / version
        self.contents[content].write(path, replace=True)
        return path

    def serve(self, control: Control, *wanted: str, bundles: str = "") -> None:
        """Begins to serve; `bundles` are contents that come from --bundle."""
        self.catalogue = Catalogue([ServedModel.load(self.contents[each]) for each in bundles])
        repository = Repository(self.directory)
        self.control = ModelControl(
            repository, control, self.catalogue, self.kept, self.observer, lambda: self.now_s
        )
        in_loop(self.control.begin(wanted))

    def close(self) -> None:
        if hasattr(self, "control"):
            self.control.close()
        self.kept.release()

    def look(self, after_s: float = 1.0) -> None:
        """Lets some time pass and the server look again."""
        self.now_s += after_s
        in_loop(self.control.keep_up())

    def settle(self) -> None:
        """Lets what lies there settle, and what came of it be compared with the store."""
        self.look()
        self.look(SETTLING_S)
        self.look(0.0)

    def pin(self, version: str, content: str, name: str = "drive") -> Key:
        """Creates a session."""
        key = Key("", str(self._sessions))
        self._sessions += 1
        pin = Pin(name, version, self.contents[content].fingerprint)
        self.store.commit([Change(key, None, b"record", pin=pin)])
        return key

    def end(self, key: Key) -> None:
        """Ends a session."""
        self.store.commit([Change(key, b"record", None)])

    @property
    def offered(self) -> list[str]:
        """What new sessions may get: versions, and letters of their contents."""
        return [
            f"{model.card.version}{self.letters[model.fingerprint]}" for model in self.catalogue
        ]

    @property
    def loaded(self) -> str:
        """The contents that sessions can go on with."""
        return "".join(sorted(self.letters[each] for each in self.catalogue.by_fingerprint))

    @property
    def states(self) -> dict[str, tuple[State, int]]:
        """How each version stands, and its sessions."""
        return {
            f"{each.pin.version}{self.letters.get(each.pin.fingerprint, '?')}": (
                each.state,
                each.session_count,
            )
            for each in self.versions
        }

    @property
    def versions(self) -> list[model_versions.ModelVersion]:
        return model_versions.every(self.control, self.catalogue, self.store.pinned())


@pytest.fixture(scope="module")
def contents() -> dict[str, Bundle]:
    bundle = Bundle.load()
    return {letter: variant(bundle, "1", factor) for letter, factor in FACTORS.items()}


@pytest.fixture
def scene(tmp_path: pathlib.Path, contents: dict[str, Bundle]) -> Iterator[Scene]:
    made = Scene(tmp_path / "models", contents)
    yield made
    made.close()


@pytest.fixture
def watching(scene: Scene) -> Scene:
    """A server that watches, with one version."""
    scene.put("1", A)
    scene.serve("watch")
    return scene


class TestWatch:
    def test_what_lies_there_at_the_start_is_served_at_once(self, watching: Scene) -> None:
        assert watching.offered == ["1a"]

    def test_new_version_is_served_once_it_has_not_changed_for_two_seconds(
        self, watching: Scene
    ) -> None:
        watching.put("2", B)
        watching.look()
        watching.look(SETTLING_S - 0.1)
        assert watching.offered == ["1a"]
        assert watching.states["2b"] == (State.LOADING, 0)
        watching.look(0.1)
        assert watching.offered == ["1a", "2b"]
        assert watching.catalogue.find("drive", "").card.version == "2"

    def test_version_that_is_copied_slowly_is_taken_when_it_is_whole(
        self, watching: Scene, contents: dict[str, Bundle], tmp_path: pathlib.Path
    ) -> None:
        contents[B].write(tmp_path / "whole")
        target = watching.directory / "drive" / "2"
        target.mkdir()
        for path in sorted((tmp_path / "whole").iterdir()):
            data = path.read_bytes()
            for end in (len(data) // 2, len(data)):
                (target / path.name).write_bytes(data[:end])
                watching.look(SETTLING_S - 0.1)
                assert watching.offered == ["1a"]
        watching.settle()
        assert watching.offered == ["1a", "2b"]

    def test_broken_bundle_is_reported_once_and_tried_again_when_it_changes(
        self, watching: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = watching.put("2", B)
        os.truncate(path / "step.tflite", 100)
        for _ in range(4):
            watching.settle()
        assert watching.offered == ["1a"]
        assert watching.states["2b"] == (State.BROKEN, 0)
        (said,) = [line for line in caplog.messages if "drive 2 is not loaded" in line]
        assert "card.json says" in said
        (broken,) = [each for each in watching.versions if each.problem]
        assert broken.problem in said
        watching.put("2", B)
        watching.settle()
        assert watching.offered == ["1a", "2b"]
        assert not any(each.problem for each in watching.versions)

    def test_fault_that_nobody_foresaw_is_the_version_s_own(
        self, watching: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load = Repository.load

        def fail(self: Repository, place: object, *rest: object) -> ServedModel:
            if place == ("drive", "2"):
                raise MemoryError("too large")
            return load(self, place, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Repository, "load", fail)
        watching.put("2", B)
        watching.put("3", C)
        watching.settle()
        assert watching.offered == ["1a", "3c"]
        assert watching.states["2b"] == (State.BROKEN, 0)

    def test_version_that_goes_is_withdrawn_and_later_unloaded(self, watching: Scene) -> None:
        watching.put("2", B)
        watching.settle()
        cell = weakref.ref(watching.catalogue.find("drive", "2").cell)
        shutil.rmtree(watching.directory / "drive" / "2")
        watching.look()
        assert watching.offered == ["1a", "2b"]
        watching.settle()
        assert (watching.offered, watching.loaded) == (["1a"], "ab")
        watching.look(LINGER_S - 0.1)
        assert watching.loaded == "ab"
        watching.look(0.1)
        assert watching.loaded == "a"
        gc.collect()
        assert cell() is None
        assert [*watching.states] == ["1a"]

    def test_exchange_that_leaves_a_moment_without_it_withdraws_nothing(
        self, watching: Scene, contents: dict[str, Bundle]
    ) -> None:
        shutil.rmtree(watching.directory / "drive" / "1")
        watching.look()
        assert watching.offered == ["1a"]
        watching.put("1", A)
        watching.settle()
        assert watching.offered == ["1a"]
        assert watching.observer.heard == []

    def test_same_content_written_again_changes_nothing(self, watching: Scene) -> None:
        model = watching.catalogue.find("drive", "1")
        watching.put("1", A)
        watching.settle()
        assert watching.catalogue.find("drive", "1") is model

    def test_other_content_in_the_place_is_for_new_sessions_alone(self, watching: Scene) -> None:
        watching.pin("1", A)
        watching.put("1", B)
        watching.settle()
        assert (watching.offered, watching.loaded) == (["1b"], "ab")
        assert watching.states == {"1a": (State.RETIRED, 1), "1b": (State.READY, 0)}

    def test_broken_content_in_the_place_leaves_the_old_one_served(self, watching: Scene) -> None:
        os.truncate(watching.directory / "drive" / "1" / "golden.npz", 100)
        watching.settle()
        assert watching.offered == ["1a"]
        assert watching.states == {"1a": (State.READY, 0)}
        assert "golden.npz: cannot be read" in watching.versions[0].problem

    def test_repository_that_cannot_be_read_takes_nothing_away(self, watching: Scene) -> None:
        watching.directory.rename(watching.directory.with_name("aside"))
        for _ in range(3):
            with pytest.raises(RepositoryError, match="cannot be read"):
                watching.look(SETTLING_S)
        assert watching.offered == ["1a"]
        watching.directory.with_name("aside").rename(watching.directory)
        watching.put("2", B)
        watching.settle()
        assert watching.offered == ["1a", "2b"]

    def test_name_of_a_bundle_is_taken(self, scene: Scene) -> None:
        scene.serve("watch", bundles=A)
        scene.put("1", B)
        scene.settle()
        assert scene.offered == ["1a"]
        problems = {scene.letters[each.pin.fingerprint]: each.problem for each in scene.versions}
        assert problems[A] == ""
        assert "--bundle has a model of this name and version" in problems[B]


def test_memory_of_what_is_unloaded_is_given_back(scene: Scene) -> None:
    scene.put("1", A)
    scene.serve("explicit")
    sizes = []
    for _ in range(30):
        in_loop(scene.control.load(ANYBODY, "drive"))
        in_loop(scene.control.unload(ANYBODY, "drive"))
        scene.look()
        scene.look(LINGER_S)
        assert scene.loaded == ""
        sizes.append(resident_bytes(os.getpid()))
    # Each that stayed would take about 1 MB.
    assert sizes[-1] - sizes[4] < 5 * 2**20, sizes


class TestHeldVersion:
    def test_version_that_sessions_hold_stays_loaded(self, watching: Scene) -> None:
        watching.put("2", B)
        watching.settle()
        key = watching.pin("2", B)
        shutil.rmtree(watching.directory / "drive" / "2")
        watching.settle()
        watching.look(100 * LINGER_S)
        assert (watching.offered, watching.loaded) == (["1a"], "ab")
        assert watching.states["2b"] == (State.RETIRED, 1)
        watching.end(key)
        watching.look()
        watching.look(LINGER_S)
        assert watching.loaded == "a"

    def test_session_created_as_it_is_withdrawn_keeps_it(self, watching: Scene) -> None:
        watching.put("2", B)
        watching.settle()
        shutil.rmtree(watching.directory / "drive" / "2")
        watching.settle()
        # It was on its way to the store.
        watching.look(LINGER_S - 1.0)
        watching.pin("2", B)
        watching.look(1.0)
        watching.look(LINGER_S)
        assert watching.loaded == "ab"

    def test_version_that_another_server_still_gives_out_stays_loaded(
        self, watching: Scene
    ) -> None:
        watching.put("2", B)
        watching.settle()
        watching.store.others = [watching.catalogue.served]
        shutil.rmtree(watching.directory / "drive" / "2")
        watching.settle()
        watching.look(10 * LINGER_S)
        assert watching.loaded == "ab"
        watching.store.others = [watching.catalogue.served]
        watching.look()
        watching.look(LINGER_S)
        assert watching.loaded == "a"

    def test_directory_that_goes_while_sessions_hold_it_is_an_alert(
        self, watching: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        keys = [watching.pin("1", A) for _ in range(2)]
        shutil.rmtree(watching.directory / "drive" / "1")
        for _ in range(3):
            watching.settle()
        (said,) = [line for line in caplog.messages if "is not in the repository" in line]
        assert "live sessions are pinned to it (2); they continue from memory" in said
        pin = Pin("drive", "1", watching.contents[A].fingerprint)
        assert watching.observer.heard == [{pin: 2}]
        assert "live sessions are pinned to it (2)" in watching.observer.health.notes[0]
        assert watching.observer.health.is_serving
        assert watching.versions[0].problem == said
        for key in keys:
            watching.end(key)
        watching.look()
        assert watching.observer.heard == [{pin: 2}, {}]
        assert watching.observer.health.notes == []
        assert "drive 1 is used by no session now" in caplog.text

    def test_alert_ends_when_the_directory_is_back(
        self, watching: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        watching.pin("1", A)
        shutil.rmtree(watching.directory / "drive" / "1")
        watching.settle()
        watching.put("1", A)
        watching.settle()
        assert watching.observer.heard[-1] == {}
        assert "drive 1 is in the repository again" in caplog.text
        assert watching.offered == ["1a"]

    def test_start_without_what_sessions_are_pinned_to_is_an_alert(self, scene: Scene) -> None:
        scene.put("1", A)
        scene.pin("2", B)
        scene.serve("watch")
        assert scene.states["2b"] == (State.MISSING, 1)
        assert "they are refused here" in scene.versions[-1].problem
        assert len(scene.observer.heard) == 1


class TestNone:
    def test_nothing_that_comes_or_goes_counts(self, scene: Scene) -> None:
        scene.put("1", A)
        scene.serve("none")
        scene.put("2", B)
        shutil.rmtree(scene.directory / "drive" / "1")
        scene.settle()
        assert scene.offered == ["1a"]

    def test_calls_are_refused(self, scene: Scene) -> None:
        scene.put("1", A)
        for control in ("none", "watch"):
            scene.serve(control)
            with pytest.raises(errors.ModelsUncontrolled, match=f"this one runs with {control}"):
                in_loop(scene.control.load(ANYBODY, "drive"))
            with pytest.raises(errors.ModelsUncontrolled):
                in_loop(scene.control.unload(ANYBODY, "drive"))
            scene.close()


class TestExplicit:
    @pytest.fixture(autouse=True)
    def fill(self, scene: Scene) -> None:
        scene.put("2", A)
        scene.put("10", B)

    @pytest.mark.parametrize(
        ("wanted", "offered"),
        [
            ([], []),
            (["drive"], ["10b"]),
            (["drive:2"], ["2a"]),
            (["drive:2", "drive"], ["2a", "10b"]),
            (["*"], ["2a", "10b"]),
        ],
    )
    def test_start_loads_what_is_wanted(
        self, scene: Scene, wanted: list[str], offered: list[str]
    ) -> None:
        scene.serve("explicit", *wanted)
        assert scene.offered == offered

    @pytest.mark.parametrize("wanted", ["road", "drive:3", "", ":2"])
    def test_start_with_a_wish_for_what_is_not_there_is_refused(
        self, scene: Scene, wanted: str
    ) -> None:
        with pytest.raises(RepositoryError, match=r"--load-model: .* is not in"):
            scene.serve("explicit", wanted)

    def test_start_loads_what_sessions_are_pinned_to_and_gives_it_to_no_others(
        self, scene: Scene
    ) -> None:
        scene.pin("2", A)
        scene.serve("explicit", "drive:10")
        assert (scene.offered, scene.loaded) == (["10b"], "ab")
        assert scene.states == {"2a": (State.RETIRED, 1), "10b": (State.READY, 0)}

    def test_what_comes_is_available_until_it_is_loaded(self, scene: Scene) -> None:
        scene.serve("explicit")
        scene.settle()
        assert scene.states == {"2a": (State.AVAILABLE, 0), "10b": (State.AVAILABLE, 0)}
        in_loop(scene.control.load(ANYBODY, "drive"))
        assert scene.offered == ["10b"]
        in_loop(scene.control.load(ANYBODY, "drive", "2"))
        assert scene.offered == ["2a", "10b"]

    def test_load_needs_no_look_before(self, scene: Scene) -> None:
        scene.serve("explicit")
        scene.put("11", C)
        assert in_loop(scene.control.load(ANYBODY, "drive")).place == ("drive", "11")

    def test_loaded_version_changes_by_the_next_call_alone(self, scene: Scene) -> None:
        scene.serve("explicit", "drive")
        scene.put("10", C)
        scene.settle()
        assert scene.offered == ["10b"]
        in_loop(scene.control.load(ANYBODY, "drive", "10"))
        assert scene.offered == ["10c"]

    def test_calls_are_for_operators(self, scene: Scene) -> None:
        scene.serve("explicit", "drive")
        client = Caller("ann", "token:ann", "client")
        for call in (scene.control.load, scene.control.unload):
            with pytest.raises(
                errors.OperatorsOnly, match="loads a model, which only operators may"
            ):
                in_loop(call(client, "drive"))
        assert scene.offered == ["10b"]

    def test_load_of_what_is_not_there_is_refused(self, scene: Scene) -> None:
        scene.serve("explicit", "drive")
        for name, version in (("road", ""), ("drive", "3"), ("", "")):
            with pytest.raises(errors.ModelUnknown, match="is not in the repository"):
                in_loop(scene.control.load(ANYBODY, name, version))
        assert scene.offered == ["10b"]

    def test_load_of_a_broken_bundle_is_refused_and_leaves_what_is_served(
        self, scene: Scene
    ) -> None:
        scene.serve("explicit", "drive")
        os.truncate(scene.directory / "drive" / "10" / "card.json", 10)
        with pytest.raises(errors.ModelBroken, match=r"drive 10 is not loaded: .*card\.json"):
            in_loop(scene.control.load(ANYBODY, "drive"))
        assert scene.offered == ["10b"]

    def test_unloaded_version_goes_on_for_its_sessions(self, scene: Scene) -> None:
        scene.serve("explicit", "*")
        key = scene.pin("10", B)
        (unloaded,) = in_loop(scene.control.unload(ANYBODY, "drive", "10"))
        assert unloaded.place == ("drive", "10")
        scene.look(LINGER_S)
        scene.look(LINGER_S)
        assert (scene.offered, scene.loaded) == (["2a"], "ab")
        scene.end(key)
        scene.look()
        scene.look(LINGER_S)
        assert scene.loaded == "a"
        assert scene.states["10b"] == (State.AVAILABLE, 0)

    def test_unload_without_a_version_takes_all_of_the_model(self, scene: Scene) -> None:
        scene.serve("explicit", "*")
        assert len(in_loop(scene.control.unload(ANYBODY, "drive"))) == 2
        assert scene.offered == []
        with pytest.raises(errors.ModelUnknown, match="drive is not loaded; served are: none"):
            in_loop(scene.control.unload(ANYBODY, "drive"))

    def test_directory_that_goes_withdraws_nothing_but_is_an_alert(self, scene: Scene) -> None:
        scene.serve("explicit", "drive")
        scene.pin("10", B)
        shutil.rmtree(scene.directory / "drive" / "10")
        scene.settle()
        assert scene.offered == ["10b"]
        assert len(scene.observer.heard) == 1


class TestSearch:
    def search(self, scene: Scene, content: str) -> bool:
        return in_loop(scene.control.search(scene.contents[content].fingerprint))

    @pytest.mark.parametrize("control", ["none", "watch", "explicit"])
    def test_session_s_version_is_found_and_given_to_no_others(
        self, scene: Scene, control: Control
    ) -> None:
        scene.put("1", A)
        scene.serve(control, *(["drive"] if control == "explicit" else []))
        scene.put("2", B)
        assert self.search(scene, B)
        assert (scene.offered, scene.loaded) == (["1a"], "ab")

    def test_what_was_found_so_is_offered_once_it_has_settled(self, watching: Scene) -> None:
        watching.put("2", B)
        assert self.search(watching, B)
        watching.settle()
        assert watching.offered == ["1a", "2b"]

    def test_what_was_found_so_is_unloaded_when_nobody_holds_it(self, scene: Scene) -> None:
        scene.serve("none")
        scene.put("2", B)
        key = scene.pin("2", B)
        assert self.search(scene, B)
        scene.look()
        scene.look(LINGER_S)
        assert scene.loaded == "b"
        assert scene.observer.heard == []
        scene.end(key)
        scene.look()
        scene.look(LINGER_S)
        assert scene.loaded == ""

    def test_what_is_not_there_is_looked_for_again_after_a_second_only(
        self, watching: Scene
    ) -> None:
        assert not self.search(watching, B)
        watching.put("2", B)
        watching.now_s += RETRY_S - 0.1
        assert not self.search(watching, B)
        watching.now_s += 0.1
        assert self.search(watching, B)

    def test_broken_bundle_with_the_fingerprint_is_passed_over(self, watching: Scene) -> None:
        os.truncate(watching.put("2", B) / "step.tflite", 100)
        assert not self.search(watching, B)
        watching.put("3", B)
        watching.now_s += RETRY_S
        assert self.search(watching, B)

    def test_all_who_ask_at_once_wait_for_one_search(
        self, watching: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watching.put("2", B)
        looks = counted(monkeypatch, watching.control)
        fingerprint = watching.contents[B].fingerprint

        async def search() -> list[bool]:
            return await asyncio.gather(*(watching.control.search(fingerprint) for _ in range(50)))

        assert in_loop(search()) == [True] * 50
        assert looks() == 1

    def test_caller_who_leaves_ends_no_search(self, watching: Scene) -> None:
        watching.put("2", B)
        fingerprint = watching.contents[B].fingerprint

        async def search() -> bool:
            leaving = asyncio.create_task(watching.control.search(fingerprint))
            await asyncio.sleep(0)
            leaving.cancel()
            return await watching.control.search(fingerprint)

        assert in_loop(search())

    def test_without_a_repository_there_is_none(self, scene: Scene) -> None:
        catalogue = Catalogue()
        control = ModelControl(None, "none", catalogue, scene.kept, scene.observer)
        assert not in_loop(control.search("f" * 64))
        assert catalogue.retry_s is None
        control.close()


def test_other_servers_are_told_what_is_loaded_and_what_is_offered(watching: Scene) -> None:
    watching.put("2", B)
    watching.settle()
    pins = [Pin("drive", str(1 + n), watching.contents[c].fingerprint) for n, c in enumerate("ab")]
    assert watching.store.announced == Served(frozenset(pins), frozenset(pins))
    watching.catalogue.withdraw(("drive", "1"))
    watching.look()
    assert watching.store.announced == Served(frozenset(pins), frozenset(pins[1:]))


def test_newest_version_waits_for_the_other_servers(watching: Scene) -> None:
    watching.store.others = [watching.catalogue.served]
    watching.put("2", B)
    watching.settle()
    assert watching.offered == ["1a", "2b"]
    assert watching.catalogue.find("drive", "").card.version == "1"
    assert [each.is_default for each in watching.versions] == [True, False]
    watching.store.others = [watching.catalogue.served]
    watching.look()
    assert watching.catalogue.find("drive", "").card.version == "2"
    assert [each.is_default for each in watching.versions] == [False, True]


def counted(monkeypatch: pytest.MonkeyPatch, control: ModelControl) -> Callable[[], int]:
    """Counts how often the repository is looked at."""
    counts = []
    repository = control.repository
    assert repository is not None
    look = repository.look

    def counting() -> Look:
        counts.append(1)
        return look()

    monkeypatch.setattr(repository, "look", counting)
    return lambda: len(counts)
