"""Fitting a network to windows of recordings, so that it can be stopped and gone on with.

    DIRECTORY/model.keras                 the trained network: of the best epoch where the
                                          recipe has a patience, else of the last one
    DIRECTORY/history.csv                 a row per epoch
    DIRECTORY/curves.png                  the same, drawn
    DIRECTORY/checkpoints/last.keras      weights, optimiser and epoch: where to go on
    DIRECTORY/checkpoints/epoch-0010.keras …  and best.keras

A recipe of several members trains each in a directory of its own, such as
DIRECTORY/member-1, one after the other; DIRECTORY/model.keras gives the mean of their
outputs, and history.csv the means of their rows.

All that is random in an epoch follows from the seed and the epoch's number, and operations
are deterministic: N epochs and, later, M more are N + M epochs to the bit.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tickcell.model.keras import archive, plots
from tickcell.model.keras.callbacks import (
    Averaged,
    Checkpoints,
    EpochSeeds,
    averaged,
    save,
    tensorboard,
)
from tickcell.model.keras.history import History
from tickcell.model.keras.models import RNNModel, mean
from tickcell.model.keras.recipe import Recipe
from tickcell.model.keras.windows import Windows
from tickcell.model.recording import Recording
from tickcell.model.recording.labels import Labelling

# Of a run: where it can be gone on with.
LAST = pathlib.Path("checkpoints", "last.keras")

_BINARY = Labelling()


class TrainingError(RuntimeError):
    """A network could not be trained."""


def train(
    recipe: Recipe,
    training: Sequence[Recording],
    validation: Sequence[Recording],
    directory: pathlib.Path,
    labelling: Labelling = _BINARY,
    *,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
    logs: pathlib.Path | None = None,
    verbose: int = 0,
) -> History:
    """Trains a network and writes it to a directory.

    Args:
      recipe: how; when resuming, that of the first run, its `epochs` being the new total.
      training: the recordings to learn from.
      validation: recordings of which nothing is learnt; may be empty.
      directory: is made, or gone on with when resuming.
      labelling: what the recordings' labels are.
      resume: goes on from the last checkpoint.
      callbacks: more of Keras's callbacks.
      logs: gets logs for TensorBoard, those of members apart.
      verbose: as in `keras.Model.fit`.

    Returns:
      The losses and accuracies of all epochs, those before resuming included.

    Raises:
      TrainingError: there is nothing to resume, or the loss became NaN or infinite.
      WindowError: the recordings cannot be cut into windows.
    """
    if resume and not is_run(directory):
        raise TrainingError(f"{directory / LAST}: is not there, so there is nothing to resume.")
    fit = functools.partial(
        _train_one, training=training, validation=validation, labelling=labelling, verbose=verbose
    )
    if recipe.members == 1:
        return fit(recipe, directory, resume=resume, callbacks=[*callbacks, *_tensorboard(logs)])
    histories, members = [], []
    for number in range(recipe.members):
        name = f"member-{number + 1}"
        # Seeds of other runs have other members.
        seed = recipe.seed * recipe.members + number
        histories.append(
            fit(
                dataclasses.replace(recipe, members=1, seed=seed),
                directory / name,
                resume=resume and is_run(directory / name),
                callbacks=[*callbacks, *_tensorboard(logs and logs / name)],
            )
        )
        members.append(archive.load(directory / name / "model.keras"))
    save(mean(members), directory / "model.keras")
    history = History.mean(histories, directory / "history.csv")
    plots.curves(history, directory / "curves.png")
    return history


def is_run(directory: pathlib.Path) -> bool:
    """Says whether a directory holds a run that can be gone on with."""
    return (directory / LAST).is_file() or any(directory.glob(f"member-*/{LAST}"))


def _tensorboard(logs: pathlib.Path | None) -> list[Any]:
    return [] if logs is None else [tensorboard(logs)]


def _train_one(
    recipe: Recipe,
    directory: pathlib.Path,
    *,
    training: Sequence[Recording],
    validation: Sequence[Recording],
    labelling: Labelling,
    resume: bool,
    callbacks: Sequence[Any],
    verbose: int,
) -> History:
    """Trains one network; see `train`."""
    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    windows = Windows(
        training,
        recipe.windowing,
        labelling,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
    )
    validation_windows = _validation_windows(recipe, validation, labelling)
    checkpoints = directory / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    last = directory / LAST
    if resume:
        model = archive.load(last, compiled=True)
    else:
        model = _new_model(recipe, training, windows, labelling)
    done = int(model.optimizer.iterations) // len(windows)
    history = History(directory / "history.csv", keep=done)
    keeper = Checkpoints(checkpoints, history, recipe.patience, recipe.checkpoint_epochs)
    if not history.is_exhausted(recipe.patience):
        model.fit(
            windows,
            validation_data=validation_windows,
            # The windows have an order of their own, which Keras must not shuffle again.
            shuffle=False,
            initial_epoch=done,
            epochs=recipe.epochs,
            callbacks=[
                EpochSeeds(windows, recipe.seed),
                *([Averaged()] if recipe.averaging else []),
                keras.callbacks.TerminateOnNaN(),
                keeper,
                *callbacks,
            ],
            verbose=verbose,
        )
    if keeper.failed_epoch is not None:
        raise TrainingError(
            f"epoch {keeper.failed_epoch}: the loss is not a finite number; the last good "
            f"checkpoint is {last}. Try a lower learning rate."
        )
    best = checkpoints / "best.keras"
    if recipe.patience is not None and best.is_file():
        (directory / "model.keras").write_bytes(best.read_bytes())
    else:
        model = archive.load(last, compiled=True)
        with averaged(model):
            save(model, directory / "model.keras")
    plots.curves(history, directory / "curves.png")
    return history


def _new_model(
    recipe: Recipe, training: Sequence[Recording], windows: Windows, labelling: Labelling
) -> RNNModel:
    """Makes a network that has the training part's normalisation, ready to fit."""
    windowing, head = recipe.windowing, _head(labelling, training)
    frames = np.concatenate([recording.frames for recording in training])
    model = RNNModel(
        recipe.recurrent_units_1,
        recipe.recurrent_units_2,
        sensor_count=frames.shape[1],
        step_count=windowing.step_count if recipe.unroll else None,
        return_sequences=windowing.each_step,
        unroll=recipe.unroll,
        dropout=recipe.dropout,
        projection_scale=recipe.projection_scale,
        output_count=labelling.output_count,
        **head.layer,
    )
    model.normalisation.adapt(frames[np.newaxis])
    model.compile(
        optimizer=keras.optimizers.Adam(
            _learning_rate(recipe, len(windows)),
            # One steep window must not throw a recurrent network off.
            global_clipnorm=1.0,
            use_ema=recipe.averaging > 0,
            ema_momentum=recipe.averaging,
        ),
        loss=head.loss,
        loss_weights=[head.loss_weight],
        weighted_metrics=[head.metric],
    )
    return model


@dataclasses.dataclass(frozen=True, slots=True)
class _Head:
    """What a kind of labels asks of a network's last layer, and of its training."""

    layer: dict[str, Any]
    loss: Any
    metric: Any
    loss_weight: float = 1.0


def _head(labelling: Labelling, training: Sequence[Recording]) -> _Head:
    if labelling.kind == "probability":
        loss, metric = keras.losses.BinaryCrossentropy(), keras.metrics.BinaryAccuracy()
        return _Head({"activation": "sigmoid"}, loss, metric)
    if labelling.kind == "classes":
        loss = keras.losses.SparseCategoricalCrossentropy()
        metric = keras.metrics.SparseCategoricalAccuracy()
        return _Head({"activation": "softmax"}, loss, metric)
    labels = np.concatenate([r.labels for r in training if r.labels is not None])
    offset, scale = float(np.nanmean(labels)), float(np.nanstd(labels)) or 1.0
    layer = {"activation": "linear", "output_scale": scale, "output_offset": offset}
    # In deviations of the labels, so that their unit says nothing of the learning rate.
    loss, metric = keras.losses.MeanSquaredError(), keras.metrics.MeanAbsoluteError()
    return _Head(layer, loss, metric, loss_weight=scale**-2)


def _learning_rate(recipe: Recipe, batch_count: int) -> Any:
    """Returns a rate or a schedule that does not depend on when the run ends."""
    if recipe.halving_epochs is None:
        return recipe.learning_rate
    return keras.optimizers.schedules.ExponentialDecay(
        recipe.learning_rate, decay_steps=recipe.halving_epochs * batch_count, decay_rate=0.5
    )


def _validation_windows(
    recipe: Recipe, validation: Sequence[Recording], labelling: Labelling
) -> Windows | None:
    """Cuts validation recordings so that each frame counts once, unchanged and in order."""
    if not validation:
        return None
    windowing = recipe.windowing
    once = dataclasses.replace(
        windowing,
        stride=windowing.step_count - windowing.burn_in,
        batch_size=512,
        batch_count=None,
    )
    return Windows(validation, once, labelling, shuffled=False)
