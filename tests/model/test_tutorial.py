"""The tutorial's code runs as it is printed, from its first block to its last."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

import documents

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    )
]


def test_each_block_runs_after_the_ones_before_it(
    project: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = documents.Document.read(project / "docs" / "tutorial.md")
    blocks = [block for block in document.blocks if block.language == "python"]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    for block in blocks:
        # As printed, but for the patience of whoever waits for the tests.
        code = block.code.replace("epochs=25", "epochs=2").replace(
            "initial_epoch=25", "initial_epoch=2"
        )
        code = code.replace("epochs=26", "epochs=3")
        exec(compile("\n" * block.line + code, str(document.path), "exec"), names)

    assert len(blocks) == 12
    assert len(names["history"].history["loss"] + names["more"].history["loss"]) == 3
    written = {path.name for path in tmp_path.iterdir()}
    assert {"logs", "noise.keras", "noise-02.keras", "curves.png", "noise-bundle"} <= written
