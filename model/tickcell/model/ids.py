"""What may be an id: a session's, and a model's name and version."""

from __future__ import annotations

import re

MAX_LENGTH = 63
EXPECTED = (
    f"a letter or digit, then up to {MAX_LENGTH - 1} letters, digits, dots, underscores and hyphens"
)

# Sessions of these ids are sequences of the Open Inference Protocol, and begin by it alone.
RESERVED_PREFIX = "oip-"

_RESERVED = re.compile(rf"{RESERVED_PREFIX}[0-9a-f]{{32}}")
_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_LENGTH - 1}}}")


def is_id(text: str) -> bool:
    """Whether a text may be an id."""
    return _ID.fullmatch(text) is not None


def is_reserved(text: str) -> bool:
    """Whether an id is one that no session may be given by its caller."""
    return _RESERVED.fullmatch(text) is not None
