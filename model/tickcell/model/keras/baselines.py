"""What can be had without a recurrent network: the marks that one must beat.

All are causal: what they say at a frame, they say of that frame and earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from tickcell.model.recording import Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

HORIZONTAL = "lin_acc_horizontal"

_NEWTON_STEPS = 25
# Chosen for the baseline's good: on two real drives, each left out in turn, weaker ridges
# take one trip's headings for a rule, and stronger ones lose the other's quick turns.
_RIDGE = 100.0


class BaselineError(ValueError):
    """A recording does not have what a baseline needs."""


class HorizontalMean:
    """The mean of `lin_acc_horizontal` over the last second; nothing is learnt."""

    name = "1 s mean of lin_acc_horizontal"

    def fit(self, recordings: Sequence[Recording]) -> None:
        """Learns nothing."""

    def outputs(self, recording: Recording) -> NDArray[np.float64]:
        """Returns `[T]`, higher where the label is likelier 1."""
        if HORIZONTAL not in recording.sensor_names:
            raise BaselineError(f"{recording.name}: has no reading {HORIZONTAL!r}.")
        column = recording.sensor_names.index(HORIZONTAL)
        return _last_second(recording)[0][:, column]


class LogisticRegression:
    """Logistic regression on means, deviations and maxima over the last second."""

    name = "logistic regression on 1 s means, deviations and maxima"

    def fit(self, recordings: Sequence[Recording]) -> None:
        """Fits weights by Newton's method, with a ridge on standardised features."""
        rows = np.concatenate([_features(recording) for recording in recordings])
        labels = np.concatenate([recording.labels for recording in recordings])
        self._mean, self._deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-9
        rows = self._standardised(rows)
        self._weights = np.zeros(rows.shape[1])
        ridge = np.full(rows.shape[1], _RIDGE)
        ridge[-1] = 1e-9  # The last is the constant, which is not held back.
        for _ in range(_NEWTON_STEPS):
            chances = 1 / (1 + np.exp(-rows @ self._weights))
            gradient = rows.T @ (chances - labels) + ridge * self._weights
            curvature = (rows.T * (chances * (1 - chances))) @ rows + np.diag(ridge)
            self._weights -= np.linalg.solve(curvature, gradient)

    def outputs(self, recording: Recording) -> NDArray[np.float64]:
        """Returns `[T]`, the probability of label 1."""
        rows = self._standardised(_features(recording))
        return np.asarray(1 / (1 + np.exp(-rows @ self._weights)))

    def _standardised(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = (rows - self._mean) / self._deviation
        return np.column_stack([scaled, np.ones(len(scaled))])


class SingleFrame:
    """A network of two hidden layers that sees one frame and nothing of those before."""

    name = "single-frame network (64, 64)"

    def __init__(self, epochs: int = 3) -> None:
        self._epochs = epochs

    def fit(self, recordings: Sequence[Recording]) -> None:
        """Fits the network to all frames, with Adam(1e-3) and batches of 256."""
        frames = np.concatenate([recording.frames for recording in recordings])
        labels = np.concatenate([recording.labels for recording in recordings])
        normalisation = keras.layers.Normalization()
        normalisation.adapt(frames)
        self._model = keras.Sequential(
            [
                keras.Input((frames.shape[1],)),
                normalisation,
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        self._model.compile(optimizer="adam", loss="binary_crossentropy")
        self._model.fit(frames, labels, batch_size=256, epochs=self._epochs, verbose=0)

    def outputs(self, recording: Recording) -> NDArray[np.float64]:
        """Returns `[T]`, the probability of label 1."""
        outputs = self._model.predict(recording.frames, batch_size=4096, verbose=0)
        return np.asarray(outputs[:, 0], np.float64)


def _features(recording: Recording) -> NDArray[np.float64]:
    return np.concatenate(_last_second(recording), axis=1)


def _last_second(
    recording: Recording,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns mean, deviation and maximum of each reading over the last second, `[T, F]`.

    Before the first frame the first one is taken to have stood still.
    """
    length = max(1, round(recording.rate_hz))
    padding = np.repeat(recording.frames[:1], length - 1, axis=0)
    frames = np.concatenate([padding, recording.frames]).astype(np.float64)
    views = np.lib.stride_tricks.sliding_window_view(frames, length, axis=0)
    return views.mean(axis=-1), views.std(axis=-1), views.max(axis=-1)
