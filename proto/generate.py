"""Generates the Python code of the wire contract, beside its .proto files.

    python proto/generate.py [DIRECTORY]

writes it below DIRECTORY instead, which must exist.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
# googleapis-common-protos brings google/rpc/*.proto, protoc itself google/protobuf/*.proto.
INCLUDES = (HERE, Path(status_pb2.__file__).parents[2], Path(protoc.__file__).parent / "_proto")


def generate(directory: Path) -> int:
    """Writes the code below `directory`; returns protoc's exit code."""
    sources = sorted(HERE.glob("tickcell/v*/*.proto"))
    code: int = protoc.main(
        [
            "protoc",
            *(f"--proto_path={include}" for include in INCLUDES),
            f"--python_out={directory}",
            f"--pyi_out={directory}",
            f"--grpc_python_out={directory}",
            *map(str, sources),
        ]
    )
    return code


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
