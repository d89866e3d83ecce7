"""The models that are served: found by fingerprint for a step, by name for a caller."""

from __future__ import annotations

import dataclasses
import re
import struct
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model import ids
from tickcell.model.ranges import Ranges
from tickcell.server import errors
from tickcell.server.pace import Pace
from tickcell.server.store.contract import Pin, Served

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tickcell.model import Bundle, Card, Cell
    from tickcell.server.record import Life, Record

# So long that it fits 64 bits.
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
# Of the list of models in an answer, in characters.
_MAX_SERVED = 500


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """One model version, ready to run.

    Attributes:
      card: what a person should know of it.
      cell: its step.
      fingerprint: in hexadecimal.
      numerics: the cell's numerics digest, 8 bytes.
      ranges: which readings a frame may have.
      limits: the lowest and the highest reading of each sensor.
      frame_layout: how one frame lies in bytes.
      pace: how long the cell takes on this machine.
      directory: where its bundle lies; None for a cell without one.
    """

    card: Card
    cell: Cell
    fingerprint: str
    numerics: bytes
    ranges: Ranges
    limits: tuple[tuple[float, float], ...]
    frame_layout: struct.Struct
    pace: Pace
    directory: pathlib.Path | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Its name and version."""
        return self.card.name, self.card.version

    @property
    def pin(self) -> Pin:
        """What a session is pinned to that it gets."""
        return Pin(self.card.name, self.card.version, self.fingerprint)

    @property
    def stretch_steps(self) -> int:
        """The most steps of one series in one piece: of as many as a call takes, whole calls."""
        most, of_a_call = self.pace.stretch_steps, self.cell.stretch_step_count
        return max(of_a_call, most - most % of_a_call)

    @classmethod
    def of(
        cls, card: Card, cell: Cell, fingerprint: str, directory: pathlib.Path | None = None
    ) -> ServedModel:
        """Prepares a cell to be served under a fingerprint."""
        ranges = Ranges(cell.interface.sensors, cell.interface.mask_value)
        return cls(
            card=card,
            cell=cell,
            fingerprint=fingerprint,
            numerics=bytes.fromhex(cell.numerics_digest),
            ranges=ranges,
            limits=tuple(zip(ranges.lowest.tolist(), ranges.highest.tolist(), strict=True)),
            frame_layout=struct.Struct(f"<{len(cell.interface.sensors)}f"),
            pace=Pace.of(cell),
            directory=directory,
        )

    def out_of_range(self, frames: bytes) -> NDArray[np.bool_] | None:
        """Tells which readings their sensors cannot give; see `Ranges`.

        Args:
          frames: `[N, F]` float32, little-endian.

        Returns:
          `[N, F]`, or None where all are good.
        """
        if len(frames) == self.frame_layout.size and not self.ranges.has_whole:
            # One frame: quicker without numpy, and at every tick. The layout has a float for
            # each range, and to have zip count them again takes a fifth of the check.
            frame = self.frame_layout.unpack(frames)
            for (lowest, highest), reading in zip(self.limits, frame):  # noqa: B905 - see above.
                if not lowest <= reading <= highest:
                    break
            else:
                return None
        readings = np.frombuffer(frames, "<f4").reshape(-1, len(self.limits))
        is_good = self.ranges.are_good(readings)
        return None if is_good.all() else ~is_good

    @classmethod
    def load(cls, bundle: Bundle) -> ServedModel:
        """Builds the bundle's cell."""
        return cls.of(bundle.card, bundle.cell(), bundle.fingerprint, bundle.path)


class CatalogueError(ValueError):
    """Two bundles cannot be served together."""


class Catalogue:
    """The models that this server has loaded, and which of them new sessions get.

    Whoever changes it does so in the event loop that serves, between two rounds. A model
    that is withdrawn from new sessions stays loaded for those that are pinned to it.

    Attributes:
      retry_s: after how long a model that is not here may be; None where none comes later.
    """

    def __init__(self, models: Iterable[ServedModel] = ()) -> None:
        """Offers some models.

        Raises:
          CatalogueError: two of them have one name and version.
        """
        self.retry_s: float | None = None
        self._by_fingerprint: dict[str, ServedModel] = {}
        self._offered: dict[tuple[str, str], ServedModel] = {}
        self._elsewhere: list[frozenset[Pin]] = []
        for model in models:
            if model.place in self._offered:
                raise CatalogueError(
                    f"two bundles are called {' '.join(model.place)}; give one of them another "
                    "version."
                )
            self.offer(model)

    def __iter__(self) -> Iterator[ServedModel]:
        """Those that new sessions may get, by name, then version."""
        return iter(sorted(self._offered.values(), key=lambda model: order(*model.place)))

    def offer(self, model: ServedModel) -> None:
        """Gives a model to new sessions, in place of what has had its name and version."""
        self.keep(model)
        self._offered[model.place] = model

    def keep(self, model: ServedModel) -> None:
        """Serves the sessions that are pinned to a model, and no new ones."""
        self._by_fingerprint[model.fingerprint] = model

    def withdraw(self, place: tuple[str, str]) -> None:
        """Gives a model to no new session any more."""
        self._offered.pop(place, None)

    def drop(self, fingerprint: str) -> ServedModel:
        """Forgets a model that is withdrawn; its sessions would not be served here any more."""
        return self._by_fingerprint.pop(fingerprint)

    @property
    def by_fingerprint(self) -> dict[str, ServedModel]:
        """A copy of all that is loaded."""
        return dict(self._by_fingerprint)

    def offers(self, place: tuple[str, str]) -> bool:
        """Says whether new sessions may get a model of this name and version."""
        return place in self._offered

    def in_words(self) -> str:
        """Lists what new sessions may get, cut to what fits an answer."""
        return ", ".join(" ".join(model.place) for model in self)[:_MAX_SERVED]

    @property
    def served(self) -> Served:
        """What is loaded, and what of it is offered."""
        offered = frozenset(model.pin for model in self._offered.values())
        return Served(frozenset(model.pin for model in self.everything), offered)

    @property
    def everything(self) -> list[ServedModel]:
        """All that is loaded, by name and version: there may be several of one fingerprint."""
        models = [*self._by_fingerprint.values(), *self._offered.values()]
        return list({model.pin: model for model in models}.values())

    def hear(self, peers: Iterable[Served]) -> None:
        """Notes what the store's other servers have loaded."""
        self._elsewhere = [peer.loaded for peer in peers]

    def loaded(self, fingerprint: str) -> ServedModel | None:
        """Returns the model of a fingerprint, if it is loaded."""
        return self._by_fingerprint.get(fingerprint)

    def pinned_to(self, record: Record, session: str) -> ServedModel:
        """Returns the model that a session is pinned to.

        Raises:
          ModelNotServed: it is not served here.
        """
        life = record.life
        model = self._by_fingerprint.get(life.fingerprint)
        if model is not None:
            return model
        error = errors.ModelNotServed(
            f"{session}: is pinned to {life.model} {life.model_version} ({life.fingerprint}), "
            "which is not served here; serve that bundle too.",
            session=session,
            model=life.model,
            model_version=life.model_version,
            model_fingerprint=life.fingerprint,
            next_step=record.next_step,
        )
        error.retry_s = self.retry_s
        raise error

    def name_sensor(self, life: Life, index: int) -> str:
        """Returns the name of a life's sensor, or its index where nothing served knows it."""
        model = self._by_fingerprint.get(life.fingerprint)
        return str(index) if model is None else model.cell.interface.sensors[index].name

    def get(self, name: str, version: str) -> ServedModel:
        """Returns a model to look at: also one that is withdrawn, if its version is named.

        Raises:
          ModelUnknown, ArgumentInvalid: see `find`.
        """
        place = (name, version)
        if place not in self._offered:
            for model in self._by_fingerprint.values():
                if model.place == place:
                    return model
        return self.find(name, version)

    def find(self, name: str, version: str) -> ServedModel:
        """Returns the model that a new session gets.

        Where the version is left empty, that is the newest one, the largest whole number,
        of those that every server of the store has loaded, so that the session can go on
        at any of them; or the newest one here, if they have none in common.

        Args:
          name: may be empty where that leaves one.
          version: may be empty where that leaves one, or where all are whole numbers.

        Raises:
          ModelUnknown: no such model is served.
          ArgumentInvalid: what was left empty has to be chosen.
        """
        found = [
            model
            for (its_name, its_version), model in self._offered.items()
            if name in ("", its_name) and version in ("", its_version)
        ]
        if len(found) == 1:
            return found[0]
        # In the answer, no more of it than fits a status.
        name, version = name[:80], version[:80]
        served = self.in_words()
        if not found:
            error = errors.ModelUnknown(
                f"model {name or '(any)'} {version or '(any version)'} is not served; served are: "
                f"{served or 'none'}.",
                model=name,
                model_version=version,
                served=served,
            )
            if self._is_elsewhere(name, version):
                error.retry_s = self.retry_s
            raise error
        newest = self.newest(found)
        if newest is not None:
            return newest
        raise errors.ArgumentInvalid(
            f"model: got {name or '(none)'} {version or '(no version)'}, expected one of: "
            f"{served}.",
            field="model_version" if name else "model",
            served=served,
        )

    def newest(self, found: Sequence[ServedModel]) -> ServedModel | None:
        """Returns the newest of some models, as `find` does; None where that cannot be told."""
        if len({model.card.name for model in found}) > 1:
            return None
        numbers = {version_number(model.card.version): model for model in found}
        if None in numbers:
            return None
        common = {
            number: model
            for number, model in numbers.items()
            if all(model.pin in loaded for loaded in self._elsewhere)
        }
        return max((common or numbers).items())[1]

    def _is_elsewhere(self, name: str, version: str) -> bool:
        """Says whether another server has loaded a model, which may then come here too."""
        return any(
            name in ("", pin.model) and version in ("", pin.version)
            for loaded in self._elsewhere
            for pin in loaded
        )


def version_number(version: str) -> int | None:
    """Returns the whole number from 1 on that a version is; None if it is a word."""
    return int(version) if _NUMBER.fullmatch(version) else None


# Of what orders the versions of models: two names, a number, a fingerprint, and in between.
MAX_ORDER = 2 * ids.MAX_LENGTH + 18 + 64 + 3


def order(name: str, version: str) -> str:
    """Returns a text that orders models: by name, then versions in words, then by number."""
    # The separator sorts before all that names may hold.
    number = version_number(version)
    return f"{name} {0:018} {version}" if number is None else f"{name} {number:018}"
