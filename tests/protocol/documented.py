"""What the comments of the wire contract say of each reason's metadata."""

from __future__ import annotations

import functools
import re
from pathlib import Path

_REASONS = Path(__file__).resolve().parents[2] / "proto/tickcell/v1/error_reason.proto"
_ENTRY = re.compile(r"((?:  //[^\n]*\n)+)  ERROR_REASON_(\w+) = [1-9]")
_METADATA = re.compile(r"Metadata: (.*?)(, and whatever else the message shows|, where .*)?\.$")


@functools.cache
def metadata() -> dict[str, tuple[frozenset[str], bool]]:
    """Returns, by reason, the names in the metadata, and whether others may be beside them."""
    found = {}
    for comment, reason in _ENTRY.findall(_REASONS.read_text(encoding="utf-8")):
        text = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        match = _METADATA.search(text)
        assert match, f"{reason}: its comment does not end with its metadata: {text}"
        names = frozenset() if match[1] == "none" else frozenset(match[1].split(", "))
        found[reason] = (names, bool(match[2]))
    return found


def check(reason: str, names: set[str]) -> None:
    """Checks that an error's metadata is what the comment of its reason says."""
    expected, may_differ = metadata()[reason]
    if may_differ:
        assert names >= expected or expected == {"session"}, f"{reason}: {names}, not {expected}"
    else:
        assert names == expected, f"{reason}: {names}, not {expected}"
