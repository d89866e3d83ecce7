"""A model repository: `DIR/name/version/`, each a bundle; what lies in it, and what has settled.

Symlinks are followed everywhere: Kubernetes shows a ConfigMap as links into one directory,
and exchanges that directory at one moment. Names that begin with a dot are nobody's models,
and neither are files beside the directories.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
import stat
from typing import TYPE_CHECKING, NamedTuple

from tickcell.model import Bundle, ids
from tickcell.server.catalogue import ServedModel, version_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# For so long a version must not have changed, so that none is taken while it is copied.
SETTLING_S = 2.0

_CARD = "card.json"
# Cards are texts of a few kilobytes.
_MOST_CARD_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class RepositoryError(Exception):
    """The repository cannot be read, or a bundle changed while it was; says what to do."""


class Place(NamedTuple):
    """Where a version lies, which is what it is called."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A version's directory at one moment.

    Attributes:
      path: of the directory.
      signature: differs once anything in it was changed.
      fingerprint: that its card states, in hexadecimal; "" if it states none.
    """

    path: pathlib.Path
    signature: tuple[object, ...]
    fingerprint: str


class Look(NamedTuple):
    """What lay in a repository at one moment.

    Attributes:
      found: the versions.
      problems: what is named as no model or version can be, each as a sentence.
    """

    found: dict[Place, Found]
    problems: list[str]


class Repository:
    """Reads a directory of models. Not for several threads at once."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        # So that a card is read again only where something changed.
        self._known: dict[Place, Found] = {}

    def look(self) -> Look:
        """Looks what is there.

        Raises:
          RepositoryError: it cannot be read, and nothing is known of what is there.
        """
        look = Look({}, [])
        try:
            models = _shown(self.directory)
        except OSError as error:
            raise RepositoryError(
                f"{self.directory}: cannot be read: {error.strerror}; name a directory of models "
                "with --models."
            ) from error
        for model in models:
            self._look_into(model, look)
        self._known = look.found
        return look

    def load(self, place: Place, found: Found, known: Mapping[str, ServedModel]) -> ServedModel:
        """Verifies a version, and makes it ready to serve under the name of its place.

        Args:
          place: where it lies.
          found: as it was found.
          known: the models that are loaded, by fingerprint, which need no second cell.

        Raises:
          BundleError: it is incomplete, damaged or tampered with.
          RepositoryError: it was changed meanwhile.
          MissingExtraError: LiteRT is not installed.
        """
        bundle = Bundle.load(found.path)
        if _signature(found.path) != found.signature:
            raise RepositoryError(f"{found.path}: was changed while it was read.")
        label = (bundle.card.name, bundle.card.version)
        if label != place:
            _log.warning(
                "%s: its card has the name %s; it is served as %s, by its directory",
                found.path,
                " ".join(label),
                place,
            )
        card = dataclasses.replace(bundle.card, name=place.name, version=place.version)
        loaded = known.get(bundle.fingerprint)
        if loaded is None:
            return ServedModel.of(card, bundle.cell(), bundle.fingerprint, found.path)
        if (loaded.card, loaded.directory) == (card, found.path):
            return loaded
        return dataclasses.replace(loaded, card=card, directory=found.path)

    def _look_into(self, model: pathlib.Path, look: Look) -> None:
        """Looks at a model's versions; of one that cannot be read, what was known stays."""
        try:
            versions = _shown(model)
        except (NotADirectoryError, FileNotFoundError):
            return
        except OSError as error:
            look.problems.append(f"{model}: cannot be read: {error.strerror}.")
            look.found.update(
                {place: each for place, each in self._known.items() if place.name == model.name}
            )
            return
        if not ids.is_id(model.name):
            look.problems.append(f"{model}: is not a model: its name is not {ids.EXPECTED}.")
            return
        for version in filter(_may_be_directory, versions):
            if version_number(version.name) is None:
                look.problems.append(
                    f"{version}: is not a version: its name is not a whole number from 1 on, "
                    "without leading zeros."
                )
            else:
                place = Place(model.name, version.name)
                look.found[place] = self._found(place, version)

    def _found(self, place: Place, path: pathlib.Path) -> Found:
        signature = _signature(path)
        known = self._known.get(place)
        if known is not None and (known.path, known.signature) == (path, signature):
            return known
        return Found(path, signature, _stated_fingerprint(path / _CARD))


class Settling:
    """Tells what has not changed for a while, of things that are looked at now and then."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begins with nothing.

        Args:
          clock: gives a time in seconds that never jumps.
        """
        self._clock = clock
        self._seen: dict[Place, tuple[Found | None, float]] = {}

    def adopt(self, found: Mapping[Place, Found]) -> None:
        """Takes what is found as settled, as at a start."""
        self._seen = {place: (each, -SETTLING_S) for place, each in found.items()}

    def settled(self, found: Mapping[Place, Found]) -> Iterator[tuple[Place, Found | None]]:
        """Yields what has settled, with None for what is gone, by place."""
        now_s = self._clock()
        for place in sorted({*self._seen, *found}):
            each = found.get(place)
            seen, since_s = self._seen.get(place, (None, now_s))
            if place not in self._seen or seen != each:
                since_s = now_s
            self._seen[place] = each, since_s
            if now_s - since_s >= SETTLING_S:
                if each is None:
                    del self._seen[place]
                yield place, each


def _shown(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns what is in a directory and not hidden, by name."""
    return [path / name for name in sorted(os.listdir(path)) if not name.startswith(".")]


def _may_be_directory(path: pathlib.Path) -> bool:
    """Says whether a path is a directory, or cannot be looked at for now."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _signature(path: pathlib.Path) -> tuple[object, ...]:
    """Returns what differs once a directory's files were changed, links followed."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return (error.errno,)
    return tuple((name, *_stat(path / name)) for name in names)


def _stat(path: pathlib.Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _stated_fingerprint(path: pathlib.Path) -> str:
    """Returns the fingerprint that a card states; "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            card = json.loads(file.read(_MOST_CARD_BYTES))
        stated = card["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        # Whoever loads the bundle says what is wrong with it.
        return ""
    return stated if isinstance(stated, str) else ""
