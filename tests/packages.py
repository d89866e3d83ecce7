"""Builds the project's distributions, and environments that hold nothing else.

In an environment made here, what a wheel's metadata forgets is not there, whatever
the tests' own environment has.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def build(source: Path, target: Path, kind: str) -> Path:
    """Builds a `wheel` or `sdist` of a source tree into an empty directory."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory"]
    subprocess.run([*command, target], cwd=source, check=True, capture_output=True)
    (built,) = target.iterdir()
    return built


@dataclasses.dataclass(frozen=True)
class EmptyEnvironment:
    """An environment below `directory`, whose commands see neither checkout nor home."""

    directory: Path

    @classmethod
    def with_wheel(cls, directory: Path, wheel: Path, *, extra: str = "") -> EmptyEnvironment:
        """Makes an environment of the wheel and copies of what its metadata asks for."""
        venv.create(directory, with_pip=False, symlinks=True)
        environment = cls(directory)
        pip = [sys.executable, "-m", "pip", "--python", str(environment.python)]
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
        (site,) = directory.glob("lib/python*/site-packages")
        (metadata,) = importlib.metadata.distributions(name="tickcell", path=[str(site)])
        for distribution in closure(metadata, extras={extra, ""}):
            for file in distribution.files or []:
                # Commands lie outside, and the tests need none of them.
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    target = site / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(str(distribution.locate_file(file)), target)
        return environment

    @classmethod
    def downloaded(
        cls, directory: Path, wheel: Path, *, extra: str, constraints: Path
    ) -> EmptyEnvironment:
        """Makes an environment as a person does: pip finds what the metadata asks for."""
        venv.create(directory, with_pip=True, symlinks=True)
        environment = cls(directory)
        pip = [str(environment.python), "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*pip, "--constraint", constraints, f"tickcell[{extra}] @ {wheel.as_uri()}"], check=True
        )
        return environment

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def tickcell(self) -> Path:
        return self.directory / "bin" / "tickcell"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of its commands: nothing of the caller's."""
        return {"HOME": str(self.directory), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, in the environment's directory."""
        return subprocess.run(
            [str(part) for part in command],
            cwd=self.directory,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def closure(
    distribution: importlib.metadata.Distribution, extras: Iterable[str]
) -> Iterator[importlib.metadata.Distribution]:
    """Returns what a distribution needs here, directly or not, each once."""
    own = canonicalize_name(distribution.metadata["Name"])
    waiting, seen = [(distribution, {*extras})], {own}
    while waiting:
        current, wanted = waiting.pop()
        for requirement in map(Requirement, current.requires or []):
            marker, name = requirement.marker, canonicalize_name(requirement.name)
            if marker and not any(marker.evaluate({"extra": extra}) for extra in wanted):
                continue
            if name == own:
                # One of its extras contains another.
                waiting.append((distribution, {*requirement.extras}))
            elif name not in seen:
                seen.add(name)
                found = importlib.metadata.distribution(requirement.name)
                waiting.append((found, {*requirement.extras, ""}))
                yield found
