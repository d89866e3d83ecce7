"""What happens around the epochs of a run: seeds, averages and checkpoints.

Keras has callbacks of its own for most of it; a run that is gone on with would not be the run in
one go with them. `SwapEMAWeights` swaps by sums, which rounds the weights at each validation;
`EarlyStopping` and `ModelCheckpoint` begin with no best loss anew; `CSVLogger` appends to rows of
epochs that are done again; `BackupAndRestore` and `ModelCheckpoint` write over the file that a
killed run needs.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tickcell.model.keras.history import History
from tickcell.model.keras.windows import Windows

_SEED_STATE = "seed_generator_state"


class EpochSeeds(keras.callbacks.Callback):  # type: ignore[misc]  # Keras comes without types
    """Makes all that is random in an epoch follow from the seed and the epoch's number."""

    def __init__(self, windows: Windows, seed: int) -> None:
        super().__init__()
        self._windows = windows
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras calls it so
        self._windows.epoch = epoch
        generators = [variable for variable in self.model.variables if variable.name == _SEED_STATE]
        for number, variable in enumerate(generators):
            state = np.random.SeedSequence([self._seed, epoch, number]).generate_state(2)
            variable.assign(state.astype(variable.dtype))


class Averaged(keras.callbacks.Callback):  # type: ignore[misc]  # Keras comes without types
    """Validates the running average of the weights, and goes on from the weights themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras calls it so
        self._stack.enter_context(averaged(self.model))

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras calls it so
        self._stack.close()


class Checkpoints(keras.callbacks.Callback):  # type: ignore[misc]  # Keras comes without types
    """Adds each epoch to the history, keeps checkpoints, and stops a run that gains nothing.

    An epoch that went wrong is not kept; `failed_epoch` says which, from 1.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        history: History,
        patience: int | None,
        checkpoint_epochs: int,
    ) -> None:
        super().__init__()
        self.failed_epoch: int | None = None
        self._directory = directory
        self._history = history
        self._patience = patience
        self._checkpoint_epochs = checkpoint_epochs

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        if not _is_finite(self.model, row):
            self.failed_epoch = epoch + 1
            self.model.stop_training = True
            return
        self._history.add(row)
        if (epoch + 1) % self._checkpoint_epochs == 0:
            save(self.model, self._directory / f"epoch-{epoch + 1:04d}.keras")
        if self._history.best_epoch == epoch:
            with averaged(self.model):
                save(self.model, self._directory / "best.keras")
        # Last, so that what it says was done is done when a run goes on from it.
        save(self.model, self._directory / "last.keras")
        if self._history.is_exhausted(self._patience):
            self.model.stop_training = True


@contextlib.contextmanager
def averaged(model: Any) -> Iterator[None]:
    """Puts the running average of the weights, where there is one, in their place for a while."""
    if not model.optimizer.use_ema:
        yield
        return
    weights = [np.array(variable) for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, weight in zip(model.trainable_variables, weights, strict=True):
            variable.assign(weight)


def save(model: Any, path: pathlib.Path) -> None:
    """Saves a model, whole or not at all."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    model.save(unfinished)
    os.replace(unfinished, path)


def _is_finite(model: Any, row: dict[str, float]) -> bool:
    return bool(np.isfinite(list(row.values())).all()) and all(
        np.isfinite(np.array(variable)).all() for variable in model.trainable_variables
    )


def tensorboard(logs: pathlib.Path) -> keras.callbacks.Callback:
    """Returns what writes a run's logs for TensorBoard."""
    return keras.callbacks.TensorBoard(log_dir=str(logs))
