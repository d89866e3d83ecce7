"""What the project's modules import, read from their source without running it."""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

PARTS = ("proto", "server", "client", "model")


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name, and where it stands."""

    module: str
    imported: str
    line: int
    at_start: bool
    """Runs when the module is imported: neither in a function nor for types alone."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.imported}"


def modules(project: Path) -> dict[str, Path]:
    """The project's hand-written modules and their files, by dotted name."""
    found = {}
    for part in PARTS:
        for path in sorted((project / part).glob("tickcell/**/*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                parts = path.relative_to(project / part).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(project: Path) -> list[Import]:
    """All imports of all modules; a module's submodule counts as what is imported."""
    known = modules(project)
    return [
        dataclasses.replace(found, imported=_shortened(found.imported, known))
        for name, path in known.items()
        for found in _in_source(name, path.read_text(encoding="utf-8"))
    ]


@functools.cache
def _in_source(module: str, source: str) -> tuple[Import, ...]:
    """All imports of a module's source, which each check asks for again."""
    return tuple(_of(module, ast.parse(source), at_start=True))


def _shortened(imported: str, known: dict[str, Path]) -> str:
    """Cuts a function or class off the module that it comes from."""
    module = imported.rpartition(".")[0]
    return module if imported not in known and module in known else imported


def _of(module: str, tree: ast.AST, *, at_start: bool) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, at_start)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{module}:{node.lineno}: a relative import; name the module")
            for alias in node.names:
                yield Import(module, f"{node.module}.{alias.name}", node.lineno, at_start)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for part in node.body:
                yield from _of(module, ast.Module([part], []), at_start=False)
            for part in node.orelse:
                yield from _of(module, ast.Module([part], []), at_start=at_start)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _of(module, node, at_start=at_start and not inside)
