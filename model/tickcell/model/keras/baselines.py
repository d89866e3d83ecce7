"""What can be had without a recurrent network: the marks that one must beat.

All are causal: what they say at a frame, they say of that frame and earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from sklearn import linear_model
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tickcell.model.recording import Recording
from tickcell.model.recording.labels import Labelling

if TYPE_CHECKING:
    from numpy.typing import NDArray

HORIZONTAL = "lin_acc_horizontal"

_BINARY = Labelling()

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
        """Returns `[T, 1]`, higher where the label is likelier 1."""
        if HORIZONTAL not in recording.sensor_names:
            raise BaselineError(f"{recording.name}: has no reading {HORIZONTAL!r}.")
        column = recording.sensor_names.index(HORIZONTAL)
        return _last_second(recording)[0][:, column, np.newaxis]


class Linear:
    """A linear model on means, deviations and maxima over the last second.

    Logistic regression for labels 0 and 1 and for classes, ridge regression for numbers.
    """

    def __init__(self, labelling: Labelling = _BINARY) -> None:
        """Makes one for labels of a kind."""
        self._labelling = labelling
        what = "ridge" if labelling.kind == "number" else "logistic"
        self.name = f"{what} regression on 1 s means, deviations and maxima"

    def fit(self, recordings: Sequence[Recording]) -> None:
        """Fits weights, with a ridge on standardised features."""
        rows = np.concatenate([_features(recording) for recording in recordings])
        labels = np.concatenate([recording.labels for recording in recordings])
        is_labelled = ~np.isnan(labels)
        if self._labelling.kind == "number":
            model: Any = linear_model.Ridge(_RIDGE)
        else:
            model = linear_model.LogisticRegression(C=1 / _RIDGE, max_iter=1000)
        self._model = make_pipeline(StandardScaler(), model)
        self._model.fit(rows[is_labelled], labels[is_labelled])

    def outputs(self, recording: Recording) -> NDArray[np.float64]:
        """Returns `[T, O]`: the probability of label 1, those of the classes, or a number."""
        rows = _features(recording)
        if self._labelling.kind == "number":
            return np.asarray(self._model.predict(rows)).reshape(-1, 1)
        found = np.asarray(self._model.predict_proba(rows))
        if self._labelling.kind == "probability":
            return found[:, 1:]
        outputs = np.zeros((len(rows), self._labelling.output_count))
        outputs[:, self._model.classes_.astype(np.intp)] = found
        return outputs


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
        """Returns `[T, 1]`, the probability of label 1."""
        outputs = self._model.predict(recording.frames, batch_size=4096, verbose=0)
        return np.asarray(outputs, np.float64)


def fitting(labelling: Labelling, sensor_names: Sequence[str]) -> list[HorizontalMean | Linear]:
    """Returns the baselines that there are for such labels and sensors."""
    linear: list[HorizontalMean | Linear] = [Linear(labelling)]
    if labelling.kind == "probability" and HORIZONTAL in sensor_names:
        return [HorizontalMean(), *linear]
    return linear


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
