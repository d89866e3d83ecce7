"""What would break a program that was made for the wire contract is found before it is released."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Breaking = Callable[[Path, Path], str]

BREAKS = {
    "another number": ("int64 next_step = 3;", "int64 next_step = 99;", "next_step"),
    "another type": ("int64 next_step = 3;", "int32 next_step = 3;", "changed type"),
    "another name": ("string model = 5;", "string served_model = 5;", "changed name"),
    "a method less": (
        "rpc TouchSession(TouchSessionRequest) returns (TouchSessionResponse);",
        "",
        '"TouchSession"',
    ),
    "a value less": ("SESSION_STATE_ACTIVE = 1", "SESSION_STATE_BUSY = 1", "SESSION_STATE_ACTIVE"),
}


@pytest.fixture
def breaking(project: Path, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    monkeypatch.syspath_prepend(str(project / "proto"))
    found: Breaking = importlib.import_module("compatible").breaking
    return found


def copy(project: Path, place: Path) -> Path:
    return Path(
        shutil.copytree(
            project / "proto", place, ignore=lambda _, names: [n for n in names if "py" in n]
        )
    )


def replace(root: Path, before: str, after: str) -> None:
    path = next(p for p in sorted(root.rglob("*.proto")) if before in p.read_text(encoding="utf-8"))
    path.write_text(path.read_text(encoding="utf-8").replace(before, after, 1), encoding="utf-8")


@pytest.mark.parametrize("change", BREAKS)
def test_a_change_that_breaks_programs_is_found(
    change: str, breaking: Breaking, project: Path, tmp_path: Path
) -> None:
    before, after, says = BREAKS[change]
    changed = copy(project, tmp_path / "after")
    replace(changed, before, after)

    assert says in breaking(project / "proto", changed)


def test_a_new_field_and_another_comment_break_nothing(
    breaking: Breaking, project: Path, tmp_path: Path
) -> None:
    changed = copy(project, tmp_path / "after")
    replace(changed, "  // Never sent.", "  // It is never sent.")
    replace(changed, "int64 next_step = 3;", "int64 next_step = 3;\n  int64 later = 90;")

    assert breaking(project / "proto", changed) == ""
