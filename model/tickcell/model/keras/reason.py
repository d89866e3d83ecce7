"""What an error of somebody else's code says, in one line."""

from __future__ import annotations

import re

# Keras puts what it was doing, and with which configuration, around what went wrong.
_WRAPPINGS = ("Exception encountered: ", "Error encountered during deserialization: ")
_MARKED = re.compile(r"\x1b\[1m(.*?)\x1b\[0m", re.DOTALL)

# Where in its graph something happened, which TensorFlow puts around what went wrong.
_NODES = re.compile(r"\{\{[^}]*\}\} ?| ?\[Op:[^\]]*\]")

# So TensorFlow begins a list of places in the code, before what went wrong there; behind it
# may come the node.
_PLACES = ("in user code:", "Graph execution error:")
_NODE = "[["


def of(error: BaseException) -> str:
    """Returns an error's type and what it says first, without a full stop."""
    said, kind = first_line(error), type(error).__name__
    return f"{kind}: {said}" if said else kind


def first_line(error: BaseException) -> str:
    """Returns what an error says first, without what Keras puts around it or a full stop."""
    said = str(error)
    for wrapping in _WRAPPINGS:
        said = said.rpartition(wrapping)[2]
    if marked := _MARKED.search(said):
        said = marked[1]
    lines = [line.strip() for line in said.splitlines() if line.strip()] or [""]
    if lines[0] in _PLACES:
        lines = [line for line in lines if not line.startswith(_NODE)][::-1]
    return _NODES.sub("", lines[0]).rstrip(".")
