"""The wire contract as protoc describes it: the elements of the .proto files, with comments."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.rpc import status_pb2

File = descriptor_pb2.FileDescriptorProto


@dataclasses.dataclass(frozen=True)
class Element:
    """A service, method, message, field, enum or enum value, and where it is written."""

    kind: str
    name: str
    owner: str
    file: str
    line: int
    comment: str
    trailing_comment: str
    proto: Any

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind} {self.name}"


@dataclasses.dataclass(frozen=True)
class Contract:
    """Some .proto files: their text, their descriptors, and their elements in order."""

    texts: dict[str, str]
    files: dict[str, File]
    elements: list[Element]

    def of(self, kind: str) -> list[Element]:
        return [element for element in self.elements if element.kind == kind]


def read(root: Path, scratch: Path) -> Contract:
    """Reads all .proto files below `root`; writes a descriptor file below `scratch`."""
    paths = {str(path.relative_to(root)): path for path in sorted(root.rglob("*.proto"))}
    # googleapis-common-protos brings google/rpc/*.proto.
    includes = (root, Path(status_pb2.__file__).parents[2])
    target = scratch / "descriptors"
    # Not in this process: TensorFlow, once loaded, and protoc do not share one.
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "--include_source_info"),
            *(f"--proto_path={include}" for include in includes),
            f"--descriptor_set_out={target}",
            *paths,
        ],
        check=True,
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file
    return Contract(
        texts={name: path.read_text(encoding="utf-8") for name, path in paths.items()},
        files={file.name: file for file in files},
        elements=list(itertools.chain.from_iterable(map(_elements, files))),
    )


def _elements(file: File) -> Iterator[Element]:
    located = {tuple(location.path): location for location in file.source_code_info.location}

    def element(kind: str, proto: Any, owner: str, *path: int) -> Element:
        at = located[path]
        return Element(
            kind,
            proto.name,
            owner,
            file.name,
            at.span[0] + 1,
            " ".join(at.leading_comments.split()),
            at.trailing_comments,
            proto,
        )

    for i, service in enumerate(file.service):
        yield element("service", service, "", 6, i)
        for j, method in enumerate(service.method):
            yield element("method", method, service.name, 6, i, 2, j)
    for i, message in enumerate(file.message_type):
        yield element("message", message, "", 4, i)
        for j, field in enumerate(message.field):
            yield element("field", field, message.name, 4, i, 2, j)
    for i, enum in enumerate(file.enum_type):
        yield element("enum", enum, "", 5, i)
        for j, value in enumerate(enum.value):
            yield element("value", value, enum.name, 5, i, 2, j)
