"""Files that change while the server serves: read anew, and the last good one kept."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

_Value = TypeVar("_Value")

_log = logging.getLogger(__name__)


class FileError(ValueError):
    """A file cannot be used. The text says why, without the file's name where it is inside."""


class Followed(Protocol):
    """Something that is read from files, and looked at again and again."""

    def look(self) -> bool:
        """Reads the files if they changed; says whether there is something new."""
        ...


class Files(Generic[_Value]):
    """What some files say together.

    They are read whole and compared, at each look: they are small, and neither times nor
    sizes tell all changes. One that is replaced in two steps, or is broken for a while, changes
    nothing until it is right again.

    Attributes:
      value: what was read last and was good.
    """

    def __init__(
        self, flag: str, paths: tuple[pathlib.Path, ...], parse: Callable[..., _Value]
    ) -> None:
        """Reads the files for the first time.

        Args:
          flag: what names them, for the texts.
          paths: where they are.
          parse: makes of their contents what they say; raises FileError.

        Raises:
          FileError: they cannot be read, or say nothing that can be used.
        """
        self._flag = flag
        self._paths = paths
        self._parse = parse
        self._complaint = ""
        self._contents = self._read()
        self.value = self._parsed(self._contents)

    def look(self) -> bool:
        """Reads the files if they changed; says whether there is something new."""
        try:
            contents = self._read()
            if contents == self._contents and not self._complaint:
                return False
            value = self._parsed(contents)
        except Exception as error:  # noqa: BLE001 - the edge: logged, and looked at again.
            if str(error) != self._complaint:
                self._complaint = str(error)
                fault = None if isinstance(error, FileError) else error
                _log.error("%s The previous content still applies.", error, exc_info=fault)
            return False
        self._complaint = ""
        if contents == self._contents:
            # It was broken, and was put back.
            _log.info("%s: is as it was before", self._flag)
            return False
        self._contents, self.value = contents, value
        _log.info("%s: read anew", self._flag)
        return True

    def _read(self) -> list[bytes]:
        contents = []
        for path in self._paths:
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise FileError(f"{self._flag}: {path}: {error.strerror}.") from error
        return contents

    def _parsed(self, contents: list[bytes]) -> _Value:
        try:
            return self._parse(*contents)
        except FileError as error:
            places = " and ".join(str(path) for path in self._paths)
            raise FileError(f"{self._flag}: {places}: {error}.") from error
