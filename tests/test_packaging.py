"""What is built holds all four parts and nothing else, and works where no checkout is."""

from __future__ import annotations

import email.message
import email.parser
import importlib.metadata
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import packages
import tools

PARTS = ("proto", "server", "client", "model")
STRAYS = ("__pycache__", "node_modules", ".pyc", ".hypothesis", ".so")


@pytest.fixture(scope="module")
def sdist(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.build(project, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.parser.Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def pins(project: Path) -> dict[str, Requirement]:
    lines = (project / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in found}


def _contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_wheel_holds_the_files_of_the_four_parts_and_no_others(project: Path, wheel: Path) -> None:
    expected = {
        str(path.relative_to(project / part))
        for part in PARTS
        for path in (project / part / "tickcell").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in _contents(wheel) if ".dist-info/" not in name} == expected


@pytest.mark.parametrize(
    "package", ["v1", "wire", "server", "client", "model", "cli", "conformance", "drive"]
)
def test_wheel_says_that_each_package_is_typed(package: str, wheel: Path) -> None:
    assert f"tickcell/{package}/py.typed" in _contents(wheel)


def test_wheel_leaves_the_namespace_open(wheel: Path) -> None:
    assert "tickcell/__init__.py" not in _contents(wheel)


@pytest.mark.parametrize(
    "file",
    ["interface.json", "card.json", "step.tflite", "steps.tflite", "golden.npz", "model.keras"],
)
def test_wheel_has_the_shipped_bundle(file: str, wheel: Path) -> None:
    assert f"tickcell/model/bundles/drive/{file}" in _contents(wheel)


def test_wheel_of_the_sdist_is_the_wheel_of_the_checkout(
    wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    subprocess.run(["tar", "xzf", sdist, "-C", tmp_path], check=True)
    (source,) = tmp_path.iterdir()
    assert _contents(packages.build(source, tmp_path / "wheel", "wheel")) == _contents(wheel)


def test_sdist_has_what_a_person_needs_to_check_and_test(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "LICENSE", "README.md", "CHANGELOG.md"} <= files
    assert "SECURITY.md" in files
    assert {
        "conftest.py",
        "proto/generate.py",
        "proto/tickcell/v1/session_service.proto",
    } < files


def test_sdist_has_no_strays(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert [name for name in names if any(stray in name for stray in STRAYS)] == []
    tops = {name.split("/")[1] for name in names if "/" in name}
    assert tops <= {
        *PARTS,
        *("tests", "bench", "docs", "deploy", "examples", ".ci", ".github"),
        *("Makefile", "constraints.txt", "conftest.py", "pyproject.toml", "PKG-INFO", ".gitignore"),
        "mkdocs.yml",
        *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    }


def test_metadata_bounds_protobuf_by_what_the_generated_code_loads_on(
    metadata: email.message.Message,
) -> None:
    requirements = map(Requirement, metadata.get_all("Requires-Dist") or [])
    (protobuf,) = [each for each in requirements if each.name == "protobuf"]
    assert {str(bound) for bound in protobuf.specifier} == {">=6.33.5", "<8"}


def test_metadata_names_the_extras_the_licence_and_the_pythons(
    metadata: email.message.Message,
) -> None:
    extras = {*(metadata.get_all("Provides-Extra") or [])}
    assert {"cli", "conform", "server", "train", "plot"} <= extras
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.15,>=3.11"


def test_base_install_is_light(metadata: email.message.Message) -> None:
    requirements = map(Requirement, metadata.get_all("Requires-Dist") or [])
    base = {canonicalize_name(each.name) for each in requirements if not each.marker}
    assert base == {"googleapis-common-protos", "grpcio", "numpy", "protobuf"}


@pytest.mark.parametrize("extra", ["server", pytest.param("train", marks=tools.needs_training)])
def test_extra_contains_the_commands(extra: str) -> None:
    needed = packages.closure(importlib.metadata.distribution("tickcell"), {extra})
    names = {canonicalize_name(each.metadata["Name"]) for each in needed}
    assert {"click", "tqdm"} <= names


@tools.needs_training
def test_everything_that_make_installs_is_pinned(pins: dict[str, Requirement]) -> None:
    needed = packages.closure(
        importlib.metadata.distribution("tickcell"), {"", "server", "train", "plot", "dev"}
    )
    names = {canonicalize_name(each.metadata["Name"]) for each in needed}
    assert names - {*pins} == set()


def test_pins_are_versions_that_the_metadata_allows(
    metadata: email.message.Message, pins: dict[str, Requirement]
) -> None:
    for requirement in map(Requirement, metadata.get_all("Requires-Dist") or []):
        (pin,) = pins[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "=="
        assert pin.version in requirement.specifier, requirement
