"""The lines of a text, whatever it is packed and encoded in."""

from __future__ import annotations

import codecs
import collections
import gzip
import io
import itertools
import pathlib
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, cast

from tickcell.model.recording.errors import RecordingError
from tickcell.model.recording.table import SAMPLE_ROWS

_GZIP = b"\x1f\x8b"
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # Before that of UTF-16, with which it begins.
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What other files begin with, and what to do with them.
_OTHERS = {
    b"PK\x03\x04": "a workbook or a zip archive; save its table as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook; save its table as CSV",
    b"\x89HDF": "HDF5; save its arrays as NPZ",
    b"MATLAB": "a MATLAB file; save its arrays as NPZ",
    b"PAR1": "Parquet; name it .parquet",
    b"\x93NUMPY": "NumPy's; name it .npy",
    b"SQLite format 3": "a database; name it .db3 if it is a ROS bag",
    b"#ROSBAG": "a ROS bag; name it .bag",
    b"\x89MCAP": "an MCAP; name it .mcap",
    b"BZh": "compressed by bzip2; decompress it",
    b"\xfd7zXZ": "packed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; decompress it",
}
_COMMENTS = ("#", "%")
_HEAD_BYTES = 512


def of_file(path: pathlib.Path) -> Iterator[str]:
    """Yields the lines of a file of UTF-8 or UTF-16, maybe packed by gzip.

    Raises:
      OSError: it cannot be opened.
      RecordingError: it is no text.
    """
    with path.open("rb") as packed:
        head = packed.read(_HEAD_BYTES)
        for start, what in _OTHERS.items():
            if head.startswith(start):
                raise RecordingError(f"{path}: is not text, but {what}.")
        packed.seek(0)
        if head.startswith(_GZIP):
            with gzip.open(packed) as binary:
                yield from _decoded(cast("IO[bytes]", binary))
        else:
            yield from _decoded(packed)


def size_of_file(path: pathlib.Path) -> int:
    """Returns about how many characters a file has; one of more than 4 GB packed, too few."""
    with path.open("rb") as packed:
        head = packed.read(_HEAD_BYTES)
        size = packed.seek(0, io.SEEK_END)
        if head.startswith(_GZIP) and size > 4:
            packed.seek(-4, io.SEEK_END)
            return int.from_bytes(packed.read(4), "little")
    return size // 2 if _encoding(head).startswith("utf-16") else size


def _checked(lines: Iterable[str], source: str) -> Iterator[str]:
    """Yields lines, and says in words that they cannot be decoded."""
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise RecordingError(
            f"{source}: is not UTF-8 or UTF-16 text: {error.reason}; save it as UTF-8."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordingError(f"{source}: is damaged gzip, or cut off: {error}.") from error


def _decoded(binary: IO[bytes]) -> Iterator[str]:
    head = binary.read(_HEAD_BYTES)
    binary.seek(0)
    with io.TextIOWrapper(binary, encoding=_encoding(head), newline="") as lines:
        yield from lines


def _encoding(head: bytes) -> str:
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return encoding
    # Without a mark: every other byte of plain letters is 0 in UTF-16, and none is in UTF-8.
    if head[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\0" else "utf-8"


class Lines:
    """Lines without comments, the first of which may be looked at before they are taken.

    Attributes:
      source: what to call the text in messages.
      is_live: whether each line is to be used before the next one is read.
      number: of the line that was taken last; the first is 1, and comments count too.
      comments: how many comment lines were passed over so far.
      last_comment: the last of them, without its mark.
    """

    def __init__(
        self, lines: Iterable[str], source: str, *, is_live: bool = False, size: int | None = None
    ) -> None:
        """Takes a text.

        Args:
          lines: of it.
          source: what to call it in messages.
          is_live: whether each line is to be used before the next one is read.
          size: about how many characters it has, where that is known.
        """
        self.source = source
        self.is_live = is_live
        self._size = size
        self._lines = enumerate(_checked(lines, source), 1)
        self._ahead: collections.deque[tuple[int, str]] = collections.deque()
        self.number = 0
        self.comments = 0
        self.last_comment = ""

    def look(self, count: int) -> list[str]:
        """Returns up to so many lines that are still to come; they are read, and kept."""
        while len(self._ahead) < count:
            numbered = self._read()
            if numbered is None:
                break
            self._ahead.append(numbered)
        return [line for _, line in itertools.islice(self._ahead, count)]

    def first(self) -> str:
        """Returns the first line to come that is not blank; it is kept, the blank ones are not.

        Raises:
          RecordingError: there is none.
        """
        for line in self:
            if line.strip("\ufeff \t\r\n"):
                self._ahead.appendleft((self.number, line))
                return line
        raise RecordingError(f"{self.source}: is empty, expected a row of column names.")

    def sample(self) -> list[str]:
        """Returns the lines to judge by: the next 1,000, and live the one that must come first."""
        return self.look(1 if self.is_live else SAMPLE_ROWS)

    def expected(self) -> int | None:
        """Returns about how many lines are still to come, where that can be told."""
        if self.is_live:
            return None
        ahead = self.sample()
        if len(ahead) < SAMPLE_ROWS:
            return len(ahead)
        return self._size and round(self._size * len(ahead) / sum(map(len, ahead)))

    def __iter__(self) -> Iterator[str]:
        """Yields the lines that are still to come, one by one as they are there."""
        while numbered := self._ahead.popleft() if self._ahead else self._read():
            self.number, line = numbered
            yield line

    def _read(self) -> tuple[int, str] | None:
        for number, line in self._lines:
            if "\0" in line:
                raise RecordingError(
                    f"{self.source}: row {number}: has NUL bytes, as a file that was cut off by a "
                    "power failure may have; remove them."
                )
            if not line.lstrip("\ufeff \t").startswith(_COMMENTS):
                return number, line
            self.comments += 1
            self.last_comment = line.lstrip("\ufeff \t#%").rstrip()
        return None
