"""The one promise, checked on a recording: streamed outputs are those of the plain loop."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.cli import temporary_session
from tickcell.cli.comparison import TOLERANCE, Comparison, compare, loop
from tickcell.client import errors, unary_calls
from tickcell.client.link import Link
from tickcell.client.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from tickcell.client.credentials import Credentials
    from tickcell.client.resources import Model
    from tickcell.model import Bundle, Cell

_LOOP = "the in-process loop"
_KERAS = "Keras over the whole sequence"
_SERIES = 3


class VerifyError(errors.TickcellError):
    """There is nothing to compare: the server serves something else."""


class Place(NamedTuple):
    """Where a server is, and what it is shown."""

    address: str
    credentials: Credentials


def served_model(server: Place, bundle: Bundle) -> Model:
    """Returns a bundle's model as it is served.

    Raises:
      VerifyError: another model of this name and version is served.
    """
    with Link(server.address, credentials=server.credentials) as link:
        model = link.do(unary_calls.get_model, bundle.card.name, bundle.card.version)
    if model.fingerprint != bundle.fingerprint:
        raise VerifyError(
            f"{server.address} serves {model.name} {model.version} with the fingerprint "
            f"{model.fingerprint[:12]}, the bundle has {bundle.fingerprint[:12]}: name the bundle "
            "that is served by --bundle."
        )
    return model


@dataclasses.dataclass
class Verification:
    """Streams a recording in three ways and compares each with the plain loop.

    Attributes:
      server: where it is.
      model: as it is served.
      cell: the same model in this process.
      frames: `[T, F]`, T >= 1.
      name: what to call the stream tick by tick.
      advance: is told of each step, or of their number, as they are done.
      outputs: `[T, O]`, those of the stream tick by tick, once it has run.
    """

    server: Place
    model: Model
    cell: Cell
    frames: NDArray[np.float32]
    name: str = "tick by tick"
    advance: Callable[..., object] = lambda *_: None
    outputs: NDArray[np.float32] | None = None

    @property
    def has_own_numerics(self) -> bool:
        """Whether the server computes the same bits as this process."""
        return self.model.numerics_digest == self.cell.numerics_digest

    @property
    def step_count(self) -> int:
        """How many steps the three ways and the plain loops take together."""
        starts, length = self._starts()
        return 3 * len(self.frames) + (1 + len(starts)) * length

    def run(self) -> Iterator[Comparison]:
        """Yields a comparison with the plain loop after each of the three ways."""
        tolerance = 0.0 if self.has_own_numerics else TOLERANCE
        expected = self._loop(self.frames)
        self.outputs = self._tick_by_tick()
        yield compare(self.name, self.outputs, _LOOP, expected, tolerance=tolerance)
        yield compare("in chunks", self._in_chunks(), _LOOP, expected, tolerance=tolerance)
        starts, length = self._starts()
        series = np.stack(
            [self._loop(self.frames[start : start + length]) for start in starts], axis=1
        )
        name = f"{len(starts)} series"
        yield compare(name, self._several_series(), _LOOP, series, tolerance=tolerance)

    def against_keras(self, expected: NDArray[np.float32]) -> Comparison:
        """Compares the stream tick by tick with the outputs of Keras, `[T, O]`."""
        if self.outputs is None:
            self.outputs = self._tick_by_tick()
        # A model that needs several frames for its first output has none before.
        expected = np.where(np.isnan(expected), self.outputs, expected)
        return compare(self.name, self.outputs, _KERAS, expected, tolerance=TOLERANCE)

    def _session(self, series_count: int = 1) -> AbstractContextManager[Session]:
        return temporary_session.deleted(
            Session.create(
                self.server.address,
                model=self.model.name,
                model_version=self.model.version,
                series_count=series_count,
                credentials=self.server.credentials,
            )
        )

    def _loop(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return loop(self.cell, frames, self.advance)

    def _tick_by_tick(self) -> NDArray[np.float32]:
        with self._session() as session:
            return np.stack(list(self._watched(session.stream(self.frames, max_chunk=1))))

    def _in_chunks(self) -> NDArray[np.float32]:
        # Chunks of all lengths, in an order that is the same each time.
        chance = random.Random(0)  # noqa: S311 - not a secret
        parts = []
        with self._session() as session:
            while session.next_step < len(self.frames):
                start = session.next_step
                length = chance.randint(1, session.info.window_step_count)
                parts.append(session.steps(self.frames[start : start + length]))
                self.advance(len(parts[-1]))
        return np.concatenate(parts)

    def _several_series(self) -> NDArray[np.float32]:
        starts, length = self._starts()
        frames = np.stack([self.frames[start : start + length] for start in starts], axis=1)
        with self._session(len(starts)) as session:
            return np.stack(list(self._watched(session.stream(frames))))

    def _watched(self, outputs: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for output in outputs:
            self.advance()
            yield output

    def _starts(self) -> tuple[list[int], int]:
        """Returns where each series starts, and how many steps all of them have."""
        starts = [index * len(self.frames) // (2 * _SERIES) for index in range(_SERIES)]
        return starts, len(self.frames) - starts[-1]


def has_keras() -> bool:
    """Whether the outputs of Keras can be computed here."""
    return importlib.util.find_spec("tensorflow") is not None


def keras_outputs(bundle: Bundle, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns what Keras makes of the whole sequence, `[T, O]`.

    Raises:
      MissingExtraError: TensorFlow is not installed.
      VerifyError: the bundle has no Keras model.
    """
    if bundle.keras_path is None:
        raise VerifyError(f"{bundle.card.name} {bundle.card.version}: has no model.keras.")
    from tickcell.model.keras import full_sequence

    return full_sequence(bundle.keras_path, frames)
