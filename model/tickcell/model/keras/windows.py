"""Windows of recordings, in batches: what a network is fitted to.

What is drawn in an epoch depends on the seed and the epoch's number alone, so a run that
was stopped goes on with the very windows that it would have had.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tickcell.model.keras.augmentation import Augmentation
from tickcell.model.recording import Recording
from tickcell.model.recording.labels import Labelling

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINARY = Labelling()

# Numbers the streams of random numbers that are drawn from one seed.
_ORDER, _CHANGES = 1, 2


class WindowError(ValueError):
    """Recordings that no network can be fitted to."""


@dataclasses.dataclass(frozen=True, slots=True)
class Windowing:
    """How recordings are cut into windows.

    Attributes:
      step_count: T, the frames of a window.
      stride: frames between the starts of two windows.
      burn_in: the first frames of a window, whose outputs count for nothing: there the
        state comes to what it would be far into a stream.
      batch_size: windows in a batch.
      batch_count: batches in an epoch, drawn from all windows; None takes each once.
      each_step: the network gives an output for each frame; or else for the last one.
      balanced: weighs the rarer labels up, so that all count for the same.
    """

    step_count: int
    stride: int = 1
    burn_in: int = 0
    batch_size: int = 32
    batch_count: int | None = None
    each_step: bool = True
    balanced: bool = False

    def __post_init__(self) -> None:
        counts = (self.step_count, self.stride, self.batch_size, self.batch_count or 1)
        if min(counts) < 1 or not 0 <= self.burn_in < self.step_count:
            raise WindowError(
                f"windows: got {self.step_count} steps, a stride of {self.stride}, "
                f"{self.batch_size} in a batch, {self.batch_count} batches and a burn-in of "
                f"{self.burn_in}, expected at least 1 each and a burn-in shorter than a window."
            )


class Windows(keras.utils.PyDataset):  # type: ignore[misc]  # Keras comes without types
    """Batches of windows: `(frames, labels, weights)` for `fit`.

    A frame without a label has the weight 0; a window of such frames is left out.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        windowing: Windowing,
        labelling: Labelling = _BINARY,
        *,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        shuffled: bool = True,
    ) -> None:
        """Cuts labelled recordings into windows, each within one recording.

        Args:
          recordings: all of the same sensors.
          windowing: how they are cut.
          labelling: what their labels are.
          seed: of the windows' order and changes.
          augmentation: how windows are changed; not at all without it.
          shuffled: draws them in an order of each epoch's own.

        Raises:
          WindowError: a recording has no labels, none is as long as a window, no window has
            a label that counts, or numbers are to be balanced.
        """
        super().__init__()
        for recording in recordings:
            if recording.labels is None:
                raise WindowError(
                    f"{recording.name}: has no labels to learn; name their column with --label."
                )
        if windowing.balanced and labelling.kind == "number":
            raise WindowError("windows: numbers have no rarer label; train without --balanced.")
        self.epoch = 0
        self._recordings = recordings
        self._windowing = windowing
        self._seed = seed
        self._augmentation = augmentation
        self._shuffled = shuffled
        self._starts = _starts(recordings, windowing)
        self._deviations = np.concatenate([r.frames for r in recordings]).std(axis=0)
        self._label_weights = _label_weights(recordings, labelling)
        self._order: tuple[int, NDArray[np.intp]] | None = None

    def __len__(self) -> int:
        count = -(-len(self._starts) // self._windowing.batch_size)
        return self._windowing.batch_count or count

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        size = self._windowing.batch_size
        order = self._epoch_order()
        if self._windowing.batch_count:
            order = np.resize(order, self._windowing.batch_count * size)
        chosen = self._starts[order[index * size : (index + 1) * size]]
        steps = self._windowing.step_count
        parts = [(self._recordings[number], start) for number, start in chosen]
        frames = np.stack([r.frames[start : start + steps] for r, start in parts])
        labels = np.stack([_labels(r)[start : start + steps] for r, start in parts])
        if self._augmentation is not None:
            generator = np.random.default_rng([self._seed, _CHANGES, self.epoch, index])
            names = self._recordings[0].sensor_names
            frames = self._augmentation.apply(frames, names, self._deviations, generator)
        return frames, *self._targets(labels)

    def _targets(self, labels: NDArray[np.float32]) -> tuple[Any, Any]:
        if not self._windowing.each_step:
            labels = labels[:, -1]
        weights = (~np.isnan(labels)).astype(np.float32)
        if self._windowing.each_step:
            weights[:, : self._windowing.burn_in] = 0
        labels = np.nan_to_num(labels)
        if self._windowing.balanced:
            weights *= self._label_weights[labels.astype(np.intp)]
        return labels[..., np.newaxis], weights

    def _epoch_order(self) -> NDArray[np.intp]:
        if self._order is None or self._order[0] != self.epoch:
            order = np.arange(len(self._starts))
            if self._shuffled:
                generator = np.random.default_rng([self._seed, _ORDER, self.epoch])
                order = generator.permutation(order)
            self._order = (self.epoch, order)
        return self._order[1]


def split_by_time(
    recordings: Sequence[Recording], validation_share: float
) -> tuple[list[Recording], list[Recording]]:
    """Splits each recording into its first part and its last; no window is in both."""
    training, validation = [], []
    for recording in recordings:
        cut = round(len(recording) * (1 - validation_share))
        training.append(part(recording, 0, cut))
        validation.append(part(recording, cut, len(recording)))
    return training, validation


def split_by_sequence(
    sequences: Sequence[Recording], validation_share: float
) -> tuple[list[Recording], list[Recording]]:
    """Splits the sequences of a file into the first ones and the last share; none is cut.

    Raises:
      WindowError: one of the two parts would be empty.
    """
    cut = round(len(sequences) * (1 - validation_share))
    if not 0 < cut < len(sequences):
        raise WindowError(
            f"{sequences[0].name}: has {len(sequences)} of the sequences that are never cut, so a "
            f"validation share of {validation_share:g} leaves one part empty; name a file to "
            "validate on with --validation."
        )
    return [*sequences[:cut]], [*sequences[cut:]]


def part(recording: Recording, start: int, end: int) -> Recording:
    """Returns the frames from `start` up to, not including, `end`."""
    labels = None if recording.labels is None else recording.labels[start:end]
    return dataclasses.replace(
        recording,
        frames=recording.frames[start:end],
        times=recording.times[start:end],
        labels=labels,
    )


def _labels(recording: Recording) -> NDArray[np.float32]:
    assert recording.labels is not None
    return recording.labels


def _starts(recordings: Sequence[Recording], windowing: Windowing) -> NDArray[np.intp]:
    """Returns `[N, 2]`: the recording and first frame of each window."""
    firsts = [
        np.arange(0, len(recording) - windowing.step_count + 1, windowing.stride)
        for recording in recordings
    ]
    if not sum(map(len, firsts)):
        longest = max((len(recording) for recording in recordings), default=0)
        # Sequences of one file have one name.
        names = ", ".join(dict.fromkeys(r.name for r in recordings)) or "no recordings"
        raise WindowError(
            f"{names}: the longest has {longest} frames, too few for one window of "
            f"{windowing.step_count}; name fewer with --steps."
        )
    counted = [
        np.column_stack([np.full(len(kept), number), kept])
        for number, (recording, first) in enumerate(zip(recordings, firsts, strict=True))
        for kept in [first[_counts(recording, first, windowing)]]
    ]
    starts = np.concatenate(counted).astype(np.intp)
    if not len(starts):
        raise WindowError(
            f"{recordings[0].name}: no window has a frame with a label that counts; --label "
            "names their column, --null-class the label that means no label."
        )
    return starts


def _counts(
    recording: Recording, first: NDArray[np.intp], windowing: Windowing
) -> NDArray[np.bool_]:
    """Says of windows by their first frames whether something can be learnt of each."""
    labelled = np.cumsum(~np.isnan(_labels(recording)), dtype=np.intp)
    before = np.concatenate([[0], labelled])
    end = first + windowing.step_count
    counted_from = first + windowing.burn_in if windowing.each_step else end - 1
    return np.asarray(before[end] > before[counted_from])


def _label_weights(recordings: Sequence[Recording], labelling: Labelling) -> NDArray[np.float32]:
    """Returns the weights of classes, or of labels 0 and 1, that make all count for the same."""
    if labelling.kind == "number":
        return np.ones(0, np.float32)
    labels = np.concatenate([_labels(r) for r in recordings])
    labels = labels[~np.isnan(labels)].astype(np.intp)
    class_count = max(2, labelling.output_count)
    counts = np.bincount(labels, minlength=class_count)
    return np.asarray(len(labels) / (class_count * np.maximum(counts, 1)), np.float32)
