"""The committed code and reference of the wire contract are what the .proto files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def _generated(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for pattern in ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")
        for path in (directory / "tickcell").rglob(pattern)
    }


def test_committed_code_is_what_protoc_generates(project: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, project / "proto" / "generate.py", tmp_path], check=True)
    committed, current = _generated(project / "proto"), _generated(tmp_path)
    drifted = sorted(
        name for name in committed | current if committed.get(name) != current.get(name)
    )
    assert not drifted, f"run `make proto`; these are not what the .proto files say: {drifted}"


def test_committed_reference_is_what_the_comments_say(project: Path, tmp_path: Path) -> None:
    current = tmp_path / "protocol.md"
    subprocess.run([sys.executable, project / "proto" / "reference.py", current], check=True)
    assert current.read_text() == (project / "docs" / "protocol.md").read_text(), "run `make proto`"
