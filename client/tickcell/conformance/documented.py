"""What the comments of the wire contract say of each reason's metadata."""

from __future__ import annotations

import functools
import importlib.resources
import re
from typing import NamedTuple

from tickcell.conformance.expectation import Unmet

_ENTRY = re.compile(r"((?:  //[^\n]*\n)+)  ERROR_REASON_(\w+) = [1-9]")
_METADATA = re.compile(r"Metadata: (none|[a-z_, ]+?)(?:; some of: ([a-z_, ]+))?\.$")


# What the enum's own comment says of refused calls about lives.
BESIDE = {"store_id"}


class Names(NamedTuple):
    """The names in a reason's metadata: those that are always there, and those that may be."""

    always: frozenset[str]
    at_times: frozenset[str]


@functools.cache
def metadata() -> dict[str, Names]:
    """Returns the names in the metadata by reason."""
    found = {}
    for comment, reason in _ENTRY.findall(_text()):
        text = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        match = _METADATA.search(text)
        assert match, f"{reason}: its comment does not end with its metadata: {text}"
        always, at_times = ("" if names in (None, "none") else names for names in match.groups())
        found[reason] = Names(_split(always), _split(at_times))
    return found


def _text() -> str:
    """Returns the contract's table of reasons, which lies beside its generated code."""
    table = importlib.resources.files("tickcell.v1") / "error_reason.proto"
    return table.read_text(encoding="utf-8")


def check(reason: str, names: set[str]) -> None:
    """Checks that an error's metadata is what the comment of its reason says."""
    always, at_times = metadata()[reason]
    names = names - BESIDE
    if not always <= names <= always | at_times:
        got = f"metadata of {reason} with {sorted(names)}"
        raise Unmet(got, f"{sorted(always)}, perhaps with {sorted(at_times)}", 10)


def _split(names: str) -> frozenset[str]:
    return frozenset(filter(None, names.split(", ")))
