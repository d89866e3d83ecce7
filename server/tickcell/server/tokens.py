"""Bearer tokens: what is drawn for a caller, and the file that knows it by its hash.

A line of the file names a token and gives its hash, `NAME sha256:HEX`; what follows a `#` is
a remark. Two lines may have one name: while a token is exchanged for another, both count. A
token is 32 random bytes, so that a plain hash is no way back to it.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from tickcell.server.files import FileError

# By which a person, or a search for secrets that leaked, knows it.
PREFIX = "tickcell_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]{0,127}")
NAME_EXPECTED = "a letter or digit, then up to 127 letters, digits and . _ @ / -"

_HASH = re.compile(r"sha256:([0-9a-f]{64})")


def draw() -> str:
    """Draws a token."""
    return PREFIX + secrets.token_urlsafe(32)


def line(name: str, token: str) -> str:
    """Returns the line of the file by which a server knows a token."""
    return f"{name} sha256:{_hash(token)}"


class Tokens:
    """The tokens of a file."""

    def __init__(self, names: dict[str, str]) -> None:
        # By hash: it takes as long to find one as to find none, whatever a guess has right.
        self._names = names

    @classmethod
    def parse(cls, content: bytes) -> Tokens:
        """Reads a file of tokens.

        Raises:
          FileError: it is none; the text says in which line, and never what is in it.
        """
        names: dict[str, str] = {}
        for number, text in enumerate(_lines(content), 1):
            words = text.partition("#")[0].split()
            if not words:
                continue
            found = _HASH.fullmatch(words[-1])
            if len(words) != 2 or found is None or not NAME.fullmatch(words[0]):
                raise FileError(
                    f"line {number}: expected a name ({NAME_EXPECTED}) and sha256: with 64 digits, "
                    "as 'tickcell token' prints it"
                )
            if names.setdefault(found[1], words[0]) != words[0]:
                raise FileError(f"line {number}: repeats the token of another name")
        return cls(names)

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self._names)

    def name_of(self, token: str) -> str | None:
        """Returns the name of a token; None if it is not among them."""
        return self._names.get(_hash(token))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _lines(content: bytes) -> list[str]:
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError("is not UTF-8") from error
