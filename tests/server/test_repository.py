"""What lies in a repository is found whatever it is made of, and counts once it has settled."""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest

from doubles.bundle_variant import variant
from tickcell.model import Bundle, BundleError
from tickcell.server.repository import Found, Place, Repository, RepositoryError, Settling

ONE, TWO = Place("drive", "1"), Place("drive", "2")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture
def directory(tmp_path: pathlib.Path, bundle: Bundle) -> pathlib.Path:
    """A repository with one version."""
    bundle.write(tmp_path / "models" / "drive" / "1")
    return tmp_path / "models"


@pytest.fixture
def repository(directory: pathlib.Path) -> Repository:
    return Repository(directory)


class TestLook:
    def test_version_is_found_with_the_fingerprint_that_its_card_states(
        self, repository: Repository, directory: pathlib.Path, bundle: Bundle
    ) -> None:
        look = repository.look()
        assert look.problems == []
        assert {*look.found} == {ONE}
        assert look.found[ONE].path == directory / "drive" / "1"
        assert look.found[ONE].fingerprint == bundle.fingerprint

    @pytest.mark.parametrize("name", ["0", "01", "v2", "latest", "1.0"])
    def test_directory_that_is_no_version_is_named(
        self, repository: Repository, directory: pathlib.Path, name: str
    ) -> None:
        (directory / "drive" / name).mkdir()
        look = repository.look()
        assert {*look.found} == {ONE}
        (problem,) = look.problems
        assert problem.startswith(f"{directory / 'drive' / name}: is not a version: ")

    def test_directory_that_is_no_model_is_named(
        self, repository: Repository, directory: pathlib.Path
    ) -> None:
        (directory / "what is this" / "1").mkdir(parents=True)
        (problem,) = repository.look().problems
        assert "is not a model: its name is not a letter or digit" in problem

    def test_files_and_hidden_names_are_nobody_s(
        self, repository: Repository, directory: pathlib.Path
    ) -> None:
        (directory / "README").write_text("models of ours")
        (directory / "drive" / "oip.json").write_text("{}")
        (directory / "drive" / ".2.partial").mkdir()
        (directory / "..2026_11_26").mkdir()
        (directory / "gone").symlink_to("nowhere")
        look = repository.look()
        assert ({*look.found}, look.problems) == ({ONE}, [])

    def test_directory_that_is_not_there_is_refused(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(RepositoryError, match=r"none: cannot be read: No such file .*--models"):
            Repository(tmp_path / "none").look()

    def test_card_without_a_fingerprint_states_none(
        self, repository: Repository, directory: pathlib.Path
    ) -> None:
        for text in ("", "[]", "{}", '{"fingerprint": 7}', "[" * 100_000, "\xff"):
            (directory / "drive" / "1" / "card.json").write_text(text, encoding="latin-1")
            assert repository.look().found[ONE].fingerprint == ""

    def test_model_that_cannot_be_read_stays_as_it_was_known(
        self, repository: Repository, directory: pathlib.Path
    ) -> None:
        before = repository.look().found
        (directory / "drive").rename(directory / ".aside")
        (directory / "drive").symlink_to("drive")
        (directory / "road").mkdir()
        (directory / "road" / "1").symlink_to(directory / ".aside" / "1")
        look = repository.look()
        assert {place: look.found[place] for place in before} == before
        assert Place("road", "1") in look.found
        assert "drive: cannot be read: Too many levels of symbolic links" in look.problems[0]

    def test_version_that_cannot_be_looked_at_is_broken_and_not_gone(
        self, repository: Repository, directory: pathlib.Path
    ) -> None:
        (directory / "drive" / "2").symlink_to("2")
        found = repository.look().found
        with pytest.raises(BundleError):
            repository.load(TWO, found[TWO], {})

    def test_every_change_changes_what_is_found(
        self, repository: Repository, directory: pathlib.Path, bundle: Bundle
    ) -> None:
        path = directory / "drive" / "1"
        seen = [repository.look().found[ONE]]

        def changed() -> bool:
            seen.append(repository.look().found[ONE])
            return seen[-1] != seen[-2]

        assert not changed()
        (path / "note").write_text("new")
        assert changed()
        (path / "note").write_text("old")
        assert changed()
        (path / "note").unlink()
        assert changed()
        # The same bytes and times, in another file.
        shutil.copy2(path / "card.json", path / "card.json.new")
        (path / "card.json.new").rename(path / "card.json")
        assert changed()
        assert seen[-1].fingerprint == bundle.fingerprint
        shutil.rmtree(path)
        assert repository.look().found == {}

    def test_exchanged_link_in_the_way_of_kubernetes_is_a_change(
        self, tmp_path: pathlib.Path, bundle: Bundle
    ) -> None:
        mount = tmp_path / "mount"
        bundle.write(mount / "..first" / "drive" / "1")
        variant(bundle, "1").write(mount / "..second" / "drive" / "1")
        (mount / "..data").symlink_to("..first")
        (mount / "drive").symlink_to("..data/drive")
        repository = Repository(mount)
        before = repository.look().found[ONE]
        (mount / "..data_tmp").symlink_to("..second")
        (mount / "..data_tmp").rename(mount / "..data")
        after = repository.look().found[ONE]
        assert before.fingerprint == bundle.fingerprint
        assert after.fingerprint == variant(bundle, "1").fingerprint


class TestLoad:
    def test_model_is_called_by_its_place_and_its_label_is_said(
        self,
        directory: pathlib.Path,
        repository: Repository,
        bundle: Bundle,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        variant(bundle, "spring").write(directory / "road" / "7")
        place = Place("road", "7")
        model = repository.load(place, repository.look().found[place], {})
        assert model.place == ("road", "7")
        assert "its card has the name drive spring; it is served as road 7" in caplog.text

    def test_label_that_fits_is_nothing_to_be_said(
        self, repository: Repository, caplog: pytest.LogCaptureFixture
    ) -> None:
        repository.load(ONE, repository.look().found[ONE], {})
        assert caplog.text == ""

    def test_model_that_is_loaded_already_keeps_its_cell(
        self, directory: pathlib.Path, repository: Repository
    ) -> None:
        shutil.copytree(directory / "drive" / "1", directory / "drive" / "2")
        found = repository.look().found
        first = repository.load(ONE, found[ONE], {})
        known = {first.fingerprint: first}
        assert repository.load(ONE, found[ONE], known) is first
        second = repository.load(TWO, found[TWO], known)
        assert second.cell is first.cell
        assert second.place == ("drive", "2")

    def test_bundle_that_changes_while_it_is_read_does_not_count(
        self, directory: pathlib.Path, repository: Repository
    ) -> None:
        found = repository.look().found[ONE]
        (directory / "drive" / "1" / "note").write_text("more to come")
        with pytest.raises(RepositoryError, match="was changed while it was read"):
            repository.load(ONE, found, {})

    @pytest.mark.parametrize("name", ["step.tflite", "interface.json", "golden.npz", "card.json"])
    @pytest.mark.parametrize("share", [None, 0.0, 0.5, 0.99])
    def test_half_a_bundle_is_none(
        self, directory: pathlib.Path, repository: Repository, name: str, share: float | None
    ) -> None:
        path = directory / "drive" / "1" / name
        if share is None:
            path.unlink()
        else:
            os.truncate(path, int(share * path.stat().st_size))
        with pytest.raises(BundleError):
            repository.load(ONE, repository.look().found[ONE], {})


class TestSettling:
    """With a clock of the test's."""

    @pytest.fixture(autouse=True)
    def begin(self) -> None:
        self.now_s = 100.0
        self.settling = Settling(lambda: self.now_s)

    def settled(self, after_s: float, **fingerprints: str) -> dict[str, str | None]:
        """Looks again after a while; versions by name, told apart by a fingerprint."""
        self.now_s += after_s
        found = {
            Place(name, "1"): Found(pathlib.Path(name), (fingerprint,), fingerprint)
            for name, fingerprint in fingerprints.items()
        }
        return {
            place.name: None if each is None else each.fingerprint
            for place, each in self.settling.settled(found)
        }

    def test_new_version_settles_in_two_seconds(self) -> None:
        assert self.settled(0.0, a="x") == {}
        assert self.settled(1.9, a="x") == {}
        assert self.settled(0.1, a="x") == {"a": "x"}

    def test_each_change_begins_anew(self) -> None:
        for index in range(10):
            assert self.settled(1.5, a=str(index)) == {}
        assert self.settled(2.0, a="9") == {"a": "9"}

    def test_versions_settle_apart(self) -> None:
        self.settled(0.0, a="x")
        assert self.settled(1.5, a="x", b="y") == {}
        assert self.settled(0.5, a="x", b="y") == {"a": "x"}
        assert self.settled(1.5, a="x", b="y") == {"a": "x", "b": "y"}

    def test_gone_for_a_moment_is_not_gone(self) -> None:
        self.settled(0.0, a="x")
        assert self.settled(2.0, a="x") == {"a": "x"}
        assert self.settled(1.0) == {}
        assert self.settled(1.0, a="x") == {}
        assert self.settled(2.0, a="x") == {"a": "x"}

    def test_gone_for_long_is_gone_once(self) -> None:
        self.settled(0.0, a="x")
        assert self.settled(2.0, a="x") == {"a": "x"}
        assert self.settled(1.0) == {}
        assert self.settled(2.0) == {"a": None}
        assert self.settled(2.0) == {}

    def test_what_is_adopted_has_settled(self) -> None:
        place = Place("a", "1")
        self.settling.adopt({place: Found(pathlib.Path("a"), ("x",), "x")})
        assert self.settled(0.0, a="x") == {"a": "x"}
        assert self.settled(0.0, a="y") == {}
