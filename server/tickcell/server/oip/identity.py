"""Which session a sequence is. Pure.

A sequence is told by its owner, its model, and its correlation id, of which 7 and "7" are
two. The session's id follows from these by a hash, so that every server of a store finds
it, and nobody needs to remember it. In the same way a life's generation follows from the
UUID that its caller gave it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from tickcell.model import ids

# As Triton has them: a negative id is the one with the same 64 bits.
_ID_BITS = 0xFFFF_FFFF_FFFF_FFFF

# Generations have 53 bits, and are not 0.
_GENERATIONS = 2**53 - 1


class Sequence(NamedTuple):
    """A sequence of one owner.

    Attributes:
      model: the model's name.
      id: the correlation id: 64 bits of a whole number, or a text.
    """

    model: str
    id: int | str

    @property
    def kind(self) -> str:
        """The kind of its id."""
        return "integer" if isinstance(self.id, int) else "string"

    def session(self, owner: str) -> str:
        """Returns the id of its session."""
        parts = [part.encode() for part in (owner, self.model, self.kind, str(self.id))]
        told_apart = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        return ids.RESERVED_PREFIX + hashlib.blake2b(told_apart, digest_size=16).hexdigest()


def integer_id(value: int) -> int:
    """Returns an integer correlation id as it is told from others."""
    return value & _ID_BITS


def generation(life: str) -> int:
    """Returns the generation of the life to which its caller gave this UUID."""
    digest = hashlib.blake2b(life.encode(), digest_size=8, person=b"tickcell life").digest()
    return 1 + int.from_bytes(digest, "little") % _GENERATIONS
