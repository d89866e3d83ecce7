"""Says what of the wire contract is no longer what it was at a revision, as `buf breaking` does.

    python proto/compatible.py REVISION

A program that was made for the contract of REVISION, such as a released tag, then no longer
compiles, or reads or writes other fields. The exit code is 1 where there is anything.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from generate import HERE, INCLUDES

# The strictest: generated code too must stay as it was, file by file.
_RULES = {"version": "v2", "breaking": {"use": ["FILE"]}}


def describe(root: Path, image: Path) -> None:
    """Writes the descriptors of the .proto files below `root` to a file.

    Raises:
      CalledProcessError: they are not protobuf.
    """
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "--include_imports"),
            *("--include_source_info", f"--descriptor_set_out={image}", f"--proto_path={root}"),
            *(f"--proto_path={include}" for include in INCLUDES if include != HERE),
            *(str(path.relative_to(root)) for path in sorted(root.glob("tickcell/v*/*.proto"))),
        ],
        check=True,
        cwd=root,
    )


def breaking(before: Path, after: Path) -> str:
    """Returns what `after` breaks of `before`, a line each; both are folders like this one."""
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch, "before.binpb"), Path(scratch, "after.binpb")
        for root, image in zip((before, after), images, strict=True):
            describe(root, image)
        buf = Path(sys.executable).with_name("buf")
        found = subprocess.run(
            [
                *(buf, "breaking", images[1], "--against", images[0]),
                *("--config", json.dumps(_RULES), "--exclude-imports"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    # 100: something was found.
    if found.returncode not in (0, 100):
        raise RuntimeError(f"buf breaking: {found.stderr or found.stdout}")
    return found.stdout


def main(revision: str) -> int:
    """Compares this folder with itself at a revision; returns the exit code."""
    archived = subprocess.run(
        ["git", "archive", revision, "--", "proto"],  # noqa: S607 - the one in the path
        capture_output=True,
        check=True,
        cwd=HERE.parent,
    )
    with tempfile.TemporaryDirectory() as before:
        with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as files:
            files.extractall(before, filter="data")
        broken = breaking(Path(before, "proto"), HERE)
    sys.stdout.write(broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
