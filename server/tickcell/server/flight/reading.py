"""Flight recordings read from their beginning on, as far as they are whole."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from tickcell.model import extras
from tickcell.server.flight.files import EXTRA, FORMAT_VERSION, METADATA, PATTERN
from tickcell.server.flight.messages import FlightEvent, FlightSteps
from tickcell.server.store.contract import Key

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

_CLASSES = {"tickcell.v1.FlightSteps": FlightSteps, "tickcell.v1.FlightEvent": FlightEvent}


class FlightError(Exception):
    """A file is no flight recording, or none that is read here."""


class Said(NamedTuple):
    """One message of a flight recording.

    Attributes:
      key: the session's.
      wall_ns: when, in nanoseconds since 1970.
      message: a FlightSteps or a FlightEvent, with its vectors as bytes.
    """

    key: Key
    wall_ns: int
    message: Any

    @property
    def is_event(self) -> bool:
        """Whether it is a FlightEvent."""
        return isinstance(self.message, FlightEvent)


class FlightReader:
    """Reads one file.

    Attributes:
      path: of the file.
      problem: why it ends where it does, once it was read to there; "" where it was finished.
      is_damaged: whether what follows there is damage.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.problem = ""
        self.is_damaged = False

    def __iter__(self) -> Iterator[Said]:
        """Yields all messages, in the order in which they were written.

        Raises:
          FlightError: the file is no flight recording, or a newer tickcell wrote it.
          OSError: it cannot be read.
          MissingExtraError: the extra "record" is not installed.
        """
        reader = extras.load("mcap.stream_reader", extra=EXTRA)
        failures = extras.load("mcap.exceptions", extra=EXTRA)
        with self.path.open("rb") as stream:
            try:
                yield from self._messages(reader.StreamReader(stream, validate_crcs=True).records)
            except failures.InvalidMagic as error:
                raise FlightError(f"{self.path}: is not an MCAP file.") from error
            except failures.EndOfFile:
                self.problem = "not finished: its server was killed, or still writes to it"
            except (failures.McapError, ValueError, KeyError, struct.error, DecodeError) as error:
                self.is_damaged = True
                self.problem = f"damaged at byte {stream.tell()} or before: {error}"

    def _messages(self, records: Iterator[Any]) -> Iterator[Said]:
        is_known = False
        names: dict[int, str] = {}
        channels: dict[int, tuple[Key, Any]] = {}
        for each in records:
            match type(each).__name__:
                case "Message" | "Footer" if not is_known:
                    raise FlightError(f"{self.path}: is an MCAP file, but not a flight recording.")
                case "Message":
                    key, parsed = channels[each.channel_id]
                    yield Said(key, each.log_time, parsed.FromString(each.data))
                case "Schema":
                    names[each.id] = each.name
                case "Channel":
                    about = each.metadata
                    if is_known:
                        key = Key(about["owner"], about["session"])
                        channels[each.id] = key, _CLASSES[names[each.schema_id]]
                case "Metadata" if each.name == METADATA:
                    self._check_version(each.metadata["format_version"])
                    is_known = True

    def _check_version(self, version: str) -> None:
        if int(version) > FORMAT_VERSION:
            raise FlightError(
                f"{self.path}: has format version {version}, and this tickcell reads up to "
                f"{FORMAT_VERSION}; run it again with a newer one."
            )


def found(places: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the files in some places, each a file or a directory of them, oldest first.

    Raises:
      FlightError: there is none.
    """
    files: set[pathlib.Path] = set()
    for place in places:
        inside = set(place.glob(PATTERN)) if place.is_dir() else {place}
        if not inside:
            raise FlightError(f"{place}: has no flight recording, which is called {PATTERN}.")
        files |= inside
    return sorted(files, key=lambda path: (path.name, path))
