"""The models of a catalogue as this protocol sees them: versions that are whole numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors
from tickcell.server.oip import naming
from tickcell.server.oip.tensors import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.record import Record

_VERSION = re.compile(r"[1-9][0-9]*")


class Version(NamedTuple):
    """A model version.

    Attributes:
      model: it.
      layout: reads and writes its tensors.
    """

    model: ServedModel
    layout: Layout

    @property
    def place(self) -> tuple[str, str]:
        """Its name and version."""
        return self.model.card.name, self.model.card.version


class Entry(NamedTuple):
    """A model version, served by this protocol or not.

    Attributes:
      model: it.
      problem: why it is not served; "" if it is.
    """

    model: ServedModel
    problem: str


class Repository:
    """Finds versions, and knows the layout of each."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: dict[tuple[str, str], tuple[ServedModel, Layout | str]] = {}

    def entries(self) -> Iterator[Entry]:
        """By name, then version."""
        for model in self._catalogue:
            layout = self._layout(model)
            yield Entry(model, layout if isinstance(layout, str) else "")

    def versions(self, name: str) -> list[Version]:
        """Returns the versions of a model that are served, oldest first.

        Raises:
          ModelUnknown: there is none.
        """
        found = []
        problem = ""
        for model in self._catalogue:
            if model.card.name == name:
                layout = self._layout(model)
                if isinstance(layout, Layout):
                    found.append(Version(model, layout))
                else:
                    problem = layout
        if not found:
            served = ", ".join({model.card.name: None for model in self._catalogue})
            raise _unknown(name, "", served, problem)
        return sorted(found, key=lambda each: int(each.model.card.version))

    def find(self, name: str, version: str) -> Version:
        """Returns a version of a model; for "" the newest, as `Catalogue.find` means it.

        Raises:
          ModelUnknown: it is not served.
        """
        versions = self.versions(name)
        if not version:
            newest = self._catalogue.newest([each.model for each in versions])
            return next(each for each in versions if each.model is newest)
        for each in versions:
            if each.model.card.version == version:
                return each
        served = ", ".join(each.model.card.version for each in versions)
        raise _unknown(name, version, served)

    def pinned_to(self, record: Record, session: str) -> Version:
        """Returns the version that a session is pinned to.

        Raises:
          ModelNotServed: it is not served here.
        """
        model = self._catalogue.pinned_to(record, session)
        layout = self._layout(model)
        if isinstance(layout, Layout):
            return Version(model, layout)
        raise errors.ModelNotServed(
            f"{session}: is pinned to {model.card.name} {model.card.version}, of which {layout}.",
            session=session,
            model=model.card.name,
            model_version=model.card.version,
            model_fingerprint=model.fingerprint,
            next_step=record.next_step,
        )

    def _layout(self, model: ServedModel) -> Layout | str:
        """Returns a model's layout, or why it has none."""
        place = (model.card.name, model.card.version)
        known = self._known.get(place)
        if known is None or known[0] is not model:
            known = self._known[place] = (model, _layout(model))
        return known[1]


def _layout(model: ServedModel) -> Layout | str:
    name, version, interface = model.card.name, model.card.version, model.cell.interface
    if not _VERSION.fullmatch(version):
        return f"the version {version!r} is not a whole number, and is served natively only"
    path = None if model.directory is None else model.directory / naming.FILE
    if path is None or not path.exists():
        return Layout(name, version, naming.by_default(interface))
    try:
        return Layout(name, version, naming.read(path.read_bytes(), interface))
    except (OSError, naming.NamingError) as error:
        return f"{path}: {error}"


def _unknown(name: str, version: str, served: str, problem: str = "") -> errors.ModelUnknown:
    called = f"'{name[:80]}'" + (f" version '{version[:80]}'" if version else "")
    # In the answer, no more of it than fits a status.
    served = served[:200]
    return errors.ModelUnknown(
        f"Request for unknown model: {called} is not found; {problem or f'served are: {served}'}.",
        model=name[:80],
        model_version=version[:80],
        served=served,
    )
