"""The key by which a server knows the exports of its like from others."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from tickcell.server.files import FileError, Files

if TYPE_CHECKING:
    from tickcell.server.config import Config

# A key that is shorter can be guessed.
_MIN_BYTES = 16
_PURPOSE = b"tickcell session export"


class Seal:
    """Signs exports, and says whether one was signed so; without a key it does neither."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key

    @classmethod
    def of(cls, config: Config) -> Seal:
        """Reads the key that a configuration names.

        Raises:
          FileError: its file cannot be read, or holds no key.
        """
        if config.export_key is None:
            return cls()
        return Files("--export-key", (config.export_key,), cls.parse).value

    @classmethod
    def parse(cls, content: bytes) -> Seal:
        """Returns the seal of a key, as a file has it.

        Raises:
          FileError: it is too short.
        """
        key = content.strip()
        if len(key) < _MIN_BYTES:
            raise FileError(f"got a key of {len(key)} bytes, expected at least {_MIN_BYTES}")
        return cls(key)

    @property
    def has_key(self) -> bool:
        """Whether it has a key."""
        return bool(self._key)

    def sign(self, format_version: int, content: bytes) -> bytes:
        """Returns the signature of an export's content; empty without a key."""
        if not self._key:
            return b""
        signed = b"%s %d\0%s" % (_PURPOSE, format_version, content)
        return hmac.digest(self._key, signed, hashlib.sha256)

    def is_right(self, format_version: int, content: bytes, signature: bytes) -> bool:
        """Says whether the signature is that of the content; without a key any is."""
        return hmac.compare_digest(self.sign(format_version, content), signature or b"") or (
            not self._key
        )
