"""A version is written in pyproject.toml; the changelog and what is deployed agree with it."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

HEADING = re.compile(r"^## \[(?P<version>[^]]+)\](?P<rest>.*)$", re.M)
DATED = re.compile(r"( - \d{4}-\d{2}-\d{2})?")


@pytest.fixture(scope="module")
def version(project: Path) -> str:
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return str(metadata["project"]["version"])


@pytest.fixture(scope="module")
def releases(project: Path) -> dict[str, str]:
    """The changelog's headings, in their order, and what follows them in their line."""
    text = (project / "CHANGELOG.md").read_text(encoding="utf-8")
    return {found["version"]: found["rest"] for found in HEADING.finditer(text)}


def test_installed_version_is_that_of_the_checkout(version: str) -> None:
    assert importlib.metadata.version("tickcell") == version


def test_newest_release_in_the_changelog_is_the_version(
    version: str, releases: dict[str, str]
) -> None:
    assert next(each for each in releases if each != "Unreleased") == version


def test_changelog_has_the_unreleased_first_and_then_the_newest(releases: dict[str, str]) -> None:
    first, *numbered = releases
    assert first == "Unreleased"
    assert numbered == sorted(numbered, key=Version, reverse=True)
    assert all(DATED.fullmatch(rest) for rest in releases.values()), releases


def test_pythons_are_the_same_wherever_they_are_named(project: Path) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    prefix = "Programming Language :: Python :: 3."
    classified = [
        int(each.removeprefix(prefix))
        for each in metadata["classifiers"]
        if each.startswith(prefix)
    ]
    first, last = classified[0], classified[-1]
    assert classified == [*range(first, last + 1)]
    assert metadata["requires-python"] == f">=3.{first},<3.{last + 1}"
    makefile = (project / "Makefile").read_text(encoding="utf-8")
    for name in (
        "Makefile",
        "README.md",
        "CONTRIBUTING.md",
        "constraints.txt",
        "docs/compatibility.md",
    ):
        text = (project / name).read_text(encoding="utf-8")
        assert {*re.findall(r"Python 3\.(\d+) to 3\.(\d+)", text)} == {(str(first), str(last))}, (
            name
        )
    assert f"not (3, {first}) <= sys.version_info[:2] <= (3, {last})" in makefile
    workflow = yaml.safe_load((project / ".github" / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["fast"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{minor}" for minor in classified]


@pytest.fixture
def checkout(project: Path, tmp_path: Path, version: str) -> Path:
    """What `.ci/release` looks at before it builds, and no more."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(project / ".ci" / "release", tmp_path / ".ci")
    shutil.copy(project / "pyproject.toml", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(f"## [Unreleased]\n\n## [{version}]\n")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def _refusal(checkout: Path, tag: str) -> str:
    done = subprocess.run(
        [checkout / ".ci" / "release", tag], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert not (checkout / "dist").exists()
    return done.stderr


def test_tag_of_another_version_is_not_released(checkout: Path, version: str) -> None:
    message = f"the tag is v9.9.9, and pyproject.toml has version {version}: tag v{version}\n"
    assert _refusal(checkout, "v9.9.9") == message


def test_version_without_a_date_in_the_changelog_is_not_released(
    checkout: Path, version: str
) -> None:
    message = f"CHANGELOG.md has no heading '## [{version}] - YYYY-MM-DD'\n"
    assert _refusal(checkout, f"v{version}") == message
