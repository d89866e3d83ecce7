"""What may be imported from where, and what an import brings along."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import import_graph

TRAINING = ("tickcell.model.keras", "tickcell.drive.keras")
# What the base install does not have.
EXTRAS = (
    *("ai_edge_litert", "grpc_health", "grpc_reflection", "apsw", "matplotlib", "tensorflow"),
    *("click", "tqdm"),
)


def _python(source: str, *arguments: str) -> str:
    """Runs a program in a fresh process; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _re_exported(path: Path, known: dict[str, Path]) -> set[str]:
    """The names that a package's `__init__` takes from its own modules."""
    return {
        alias.asname or alias.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tickcell.")
        for alias in node.names
        if f"{node.module}.{alias.name}" not in known and not alias.name.endswith("_pb2")
    }


def _importable(project: Path) -> list[str]:
    """The modules that an import does not run as a program."""
    return [name for name in import_graph.modules(project) if not name.endswith("__main__")]


def _packages() -> list[str]:
    known = import_graph.modules(Path(__file__).resolve().parents[1])
    return [name for name, path in known.items() if path.name == "__init__.py"]


@pytest.mark.parametrize("package", [name for name in _packages() if name not in TRAINING])
def test_all_lists_what_the_package_re_exports(package: str, project: Path) -> None:
    known = import_graph.modules(project)
    module = importlib.import_module(package)
    exported = getattr(module, "__all__", [])
    missing = [name for name in exported if not hasattr(module, name)]
    assert missing == []
    assert _re_exported(known[package], known) <= {*exported}


@pytest.mark.parametrize("package", [name for name in _packages() if name not in TRAINING])
def test_everything_exported_is_documented(package: str) -> None:
    module = importlib.import_module(package)
    bare = [
        name
        for name in getattr(module, "__all__", [])
        if callable(getattr(module, name)) and not getattr(module, name).__doc__
    ]
    assert bare == []


def test_nothing_but_training_imports_tensorflow_or_matplotlib(project: Path) -> None:
    names = [name for name in _importable(project) if not name.startswith(TRAINING)]
    imported = _python(
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(*{'tensorflow', 'keras', 'matplotlib', 'tensorboard'} & {*sys.modules})",
        *names,
    )
    assert imported.split() == []


def test_client_imports_with_the_base_install_alone(project: Path) -> None:
    above = (*TRAINING, "tickcell.server", "tickcell.cli")
    names = [name for name in _importable(project) if not name.startswith(above)]
    _python(
        "import importlib, sys\n"
        f"sys.modules |= dict.fromkeys({EXTRAS})\n"
        "for name in sys.argv[1:]: importlib.import_module(name)",
        *names,
    )
