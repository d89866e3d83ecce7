"""Imports go one way, and each heavy package has one door."""

from __future__ import annotations

import graphlib
from collections.abc import Callable
from pathlib import Path

import pytest

import import_graph

Check = Callable[[Path], list[str]]

# Which parts of tickcell a part may import besides itself.
DIRECTIONS = {
    "v1": set[str](),
    "wire": {"v1"},
    "model": set[str](),
    "server": {"v1", "wire", "model"},
    "client": {"v1", "wire", "model"},
    # The example: no part of the product knows of it but the commands.
    "drive": {"client", "model"},
    # The compliance suite, of whoever wrote the server.
    "conformance": {"v1", "wire", "client"},
    "cli": {"client", "conformance", "drive", "model", "server"},
}
# The only modules that may import a package, by the beginning of their name.
# LiteRT and Matplotlib are loaded by `extras.load`, which names the missing extra.
DOORS: dict[str, tuple[str, ...]] = {
    "tensorflow": ("tickcell.model.keras.",),
    "keras": ("tickcell.model.keras.", "tickcell.drive.keras."),
    "apsw": ("tickcell.server.store.",),
    # Of an extra of its own.
    "asyncpg": ("tickcell.server.store.postgres.",),
    # What a robot imports needs neither.
    "click": ("tickcell.cli.", "tickcell.server."),
    "tqdm": ("tickcell.cli.",),
    "grpc": ("tickcell.client.", "tickcell.conformance.", "tickcell.server."),
    "pytest": ("tickcell.conformance.",),
    "h11": ("tickcell.server.monitoring.",),
    "prometheus_client": ("tickcell.server.monitoring.", "tickcell.server.workers.sums."),
    # Of an extra of its own: only a server that traces imports its door.
    "opentelemetry": ("tickcell.server.monitoring.spans.",),
    # Its messages clash with those of other packages: whoever needs them, has them from there.
    "tritonclient": (),
    "ai_edge_litert": (),
    "matplotlib": (),
    "tensorboard": (),
}
# What pure modules keep out: the network, the disk, the clock, chance, the environment.
IMPURE = {
    "grpc",
    "apsw",
    "asyncpg",
    "os",
    "pathlib",
    "random",
    "secrets",
    "socket",
    "threading",
    "time",
}
PURE = (
    "tickcell.client.answered",
    "tickcell.client.due",
    "tickcell.client.flight",
    "tickcell.client.needs",
    "tickcell.client.recall",
    "tickcell.client.turns",
    "tickcell.model.interface",
    "tickcell.server.computing",
    "tickcell.server.episodes",
    "tickcell.server.grouping",
    "tickcell.server.handovers",
    "tickcell.server.heads",
    "tickcell.server.allowance",
    "tickcell.server.beginnings",
    "tickcell.server.lives",
    "tickcell.server.preview",
    "tickcell.server.record",
    "tickcell.server.rounds",
    "tickcell.server.rules",
    "tickcell.server.store.contract",
    "tickcell.wire.history",
    "tickcell.wire.stream_codec",
)


def misdirected(project: Path) -> list[str]:
    """The imports that go against the arrows between the parts."""
    found = []
    for each in import_graph.imports(project):
        top, _, rest = each.imported.partition(".")
        part, imported = each.module.split(".")[1], rest.split(".")[0]
        if top == "tickcell" and imported not in {part, *DIRECTIONS[part]}:
            found.append(str(each))
    return found


def through_the_wall(project: Path) -> list[str]:
    """The imports of a package by a module that is not one of its doors."""
    return [
        str(each)
        for each in import_graph.imports(project)
        if not f"{each.module}.".startswith(DOORS.get(each.imported.split(".")[0], ("",)))
    ]


def impure(project: Path) -> list[str]:
    """What the pure modules import that is not pure."""
    return [
        str(each)
        for each in import_graph.imports(project)
        if each.module in PURE
        and ({each.imported.split(".")[0]} & IMPURE or ".store" in each.imported)
        and each.imported not in {*PURE, "tickcell.server.store.errors"}
    ]


def cycle(project: Path) -> list[str]:
    """The modules of a cycle of imports, or nothing."""
    known = import_graph.modules(project)
    graph: dict[str, set[str]] = {name: set() for name in known}
    for each in import_graph.imports(project):
        # A package's own name stands for what it re-exports.
        if each.at_start and each.imported in known and each.imported != each.module:
            graph[each.module].add(each.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


CHECKS = [misdirected, through_the_wall, impure, cycle]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_import_is(check: Check, project: Path) -> None:
    assert check(project) == []


@pytest.mark.parametrize(
    ("check", "module", "source"),
    [
        (misdirected, "client/tickcell/client/session.py", "from tickcell.server import rules"),
        (misdirected, "client/tickcell/client/session.py", "def f():\n  import tickcell.server"),
        (misdirected, "client/tickcell/client/session.py", "from tickcell import cli"),
        (misdirected, "client/tickcell/client/session.py", "from tickcell import drive"),
        (misdirected, "model/tickcell/model/cell.py", "from tickcell import drive"),
        (misdirected, "model/tickcell/drive/drive.py", "from tickcell import server"),
        (misdirected, "server/tickcell/server/turn.py", "from tickcell.drive import simulation"),
        (misdirected, "model/tickcell/model/cell.py", "from tickcell import wire"),
        (misdirected, "server/tickcell/server/turn.py", "import tickcell.client.session"),
        (through_the_wall, "model/tickcell/model/cell.py", "import keras"),
        (
            through_the_wall,
            "model/tickcell/model/cell.py",
            "from ai_edge_litert import interpreter",
        ),
        (through_the_wall, "server/tickcell/server/turn.py", "import apsw"),
        (through_the_wall, "client/tickcell/client/session.py", "import click"),
        (through_the_wall, "client/tickcell/client/session.py", "def f():\n  import tqdm"),
        (impure, "server/tickcell/server/rules.py", "import time"),
        (impure, "server/tickcell/server/rules.py", "from tickcell.server import store"),
        (cycle, "server/tickcell/server/rules.py", "from tickcell.server import turn"),
    ],
)
def test_planted_import_is_found_to_be(
    check: Check, module: str, source: str, tmp_path: Path
) -> None:
    turn = tmp_path / "server" / "tickcell" / "server" / "turn.py"
    for path, text in ((turn, "from tickcell.server import rules"), (tmp_path / module, source)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert check(tmp_path) != []


def test_every_folder_with_modules_is_a_known_part(project: Path) -> None:
    parts = {name.split(".")[1] for name in import_graph.modules(project)}
    assert parts <= {*DIRECTIONS}
