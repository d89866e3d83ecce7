"""The models that are served: found by fingerprint for a step, by name for a caller."""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING

import numpy as np

from tickcell.server import errors
from tickcell.server.pace import Pace

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from tickcell.model import Bundle, Card, Cell
    from tickcell.server.record import Life, Record


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """One model version, ready to run.

    Attributes:
      card: what a person should know of it.
      cell: its step.
      fingerprint: in hexadecimal.
      numerics: the cell's numerics digest, 8 bytes.
      ranges: the sensors' hard ranges, inclusive; as float32, like readings, so that a
        reading clipped to its range is within.
      frame_layout: how one frame lies in bytes.
      pace: how long the cell takes on this machine.
      directory: where its bundle lies; None for a cell without one.
    """

    card: Card
    cell: Cell
    fingerprint: str
    numerics: bytes
    ranges: tuple[tuple[float, float], ...]
    frame_layout: struct.Struct
    pace: Pace
    directory: pathlib.Path | None = None

    @classmethod
    def of(
        cls, card: Card, cell: Cell, fingerprint: str, directory: pathlib.Path | None = None
    ) -> ServedModel:
        """Prepares a cell to be served under a fingerprint."""
        sensors = cell.interface.sensors
        return cls(
            card=card,
            cell=cell,
            fingerprint=fingerprint,
            numerics=bytes.fromhex(cell.numerics_digest),
            ranges=tuple(
                (float(np.float32(sensor.min_reading)), float(np.float32(sensor.max_reading)))
                for sensor in sensors
            ),
            frame_layout=struct.Struct(f"<{len(sensors)}f"),
            pace=Pace.of(cell),
            directory=directory,
        )

    def out_of_range(self, frames: bytes) -> NDArray[np.bool_] | None:
        """Tells which readings lie outside the sensors' hard ranges.

        Args:
          frames: `[N, F]` float32, little-endian.

        Returns:
          `[N, F]`, or None where all are inside.
        """
        if len(frames) == self.frame_layout.size:
            # One frame: quicker without numpy, and at every tick. The layout has a float for
            # each range, and to have zip count them again takes a fifth of the check.
            frame = self.frame_layout.unpack(frames)
            for (lowest, highest), reading in zip(self.ranges, frame):  # noqa: B905 - see above.
                if not lowest <= reading <= highest:
                    break
            else:
                return None
        readings = np.frombuffer(frames, "<f4").reshape(-1, len(self.ranges))
        bounds = np.array(self.ranges)
        is_outside = (readings < bounds[:, 0]) | (readings > bounds[:, 1])
        return is_outside if is_outside.any() else None

    @classmethod
    def load(cls, bundle: Bundle) -> ServedModel:
        """Builds the bundle's cell."""
        return cls.of(bundle.card, bundle.cell(), bundle.fingerprint, bundle.path)


class CatalogueError(ValueError):
    """Two bundles cannot be served together."""


class Catalogue:
    """All served models. Immutable."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        """Raises CatalogueError where two models have one name and version."""
        self._models: dict[tuple[str, str], ServedModel] = {}
        for model in models:
            key = (model.card.name, model.card.version)
            if key in self._models:
                raise CatalogueError(
                    f"two bundles are called {key[0]} {key[1]}; give one of them another version."
                )
            self._models[key] = model
        self._by_fingerprint = {model.fingerprint: model for model in self._models.values()}

    def __iter__(self) -> Iterator[ServedModel]:
        """By name, then version."""
        return iter([self._models[key] for key in sorted(self._models)])

    def pinned_to(self, record: Record, session: str) -> ServedModel:
        """Returns the model that a session is pinned to.

        Raises:
          ModelNotServed: it is not served here.
        """
        life = record.life
        model = self._by_fingerprint.get(life.fingerprint)
        if model is not None:
            return model
        raise errors.ModelNotServed(
            f"{session}: is pinned to {life.model} {life.model_version} ({life.fingerprint}), "
            "which is not served here; serve that bundle too.",
            session=session,
            model=life.model,
            model_version=life.model_version,
            model_fingerprint=life.fingerprint,
            next_step=record.next_step,
        )

    def name_sensor(self, life: Life, index: int) -> str:
        """Returns the name of a life's sensor, or its index where nothing served knows it."""
        model = self._by_fingerprint.get(life.fingerprint)
        return str(index) if model is None else model.cell.interface.sensors[index].name

    def find(self, name: str, version: str) -> ServedModel:
        """Returns a model by name and version; either may be empty where that leaves one.

        Raises:
          ModelUnknown: no such model is served.
          ArgumentInvalid: what was left empty has to be chosen.
        """
        found = [
            model
            for (its_name, its_version), model in self._models.items()
            if name in ("", its_name) and version in ("", its_version)
        ]
        if len(found) == 1:
            return found[0]
        # In the answer, no more of it than fits a status.
        name, version = name[:80], version[:80]
        served = ", ".join(f"{name} {version}" for name, version in sorted(self._models))
        if not found:
            raise errors.ModelUnknown(
                f"model {name or '(any)'} {version or '(any version)'} is not served; served are: "
                f"{served}.",
                model=name,
                model_version=version,
                served=served,
            )
        raise errors.ArgumentInvalid(
            f"model: got {name or '(none)'} {version or '(no version)'}, expected one of: "
            f"{served}.",
            field="model_version" if name else "model",
            served=served,
        )
