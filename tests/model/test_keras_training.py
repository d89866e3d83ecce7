"""Training: windows that never cross, runs that can be stopped, and what stops a run."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from tickcell import drive
from tickcell.model.interface import Head, unnamed_sensors
from tickcell.model.keras import export, models, training, windows
from tickcell.model.keras.augmentation import Augmentation, AugmentationError
from tickcell.model.keras.description import Description
from tickcell.model.keras.history import History
from tickcell.model.keras.recipe import NOISE, Recipe
from tickcell.model.keras.windows import WindowError, Windowing, Windows
from tickcell.model.outputs import Described
from tickcell.model.recording import Recording

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

NAMES = tuple(sensor.name for sensor in drive.SENSORS)


def recording(count: int, *, first: float = 0.0, name: str = "ramp") -> Recording:
    """A recording whose readings count up, so that a frame says which it is."""
    ramp = np.arange(count, dtype=np.float32) + np.float32(first)
    return Recording(
        frames=np.tile(ramp[:, np.newaxis], (1, 10)),
        times=np.arange(count) / 10,
        labels=(np.arange(count) % 4 == 3).astype(np.float32),
        sensor_names=NAMES,
        name=name,
    )


def frames_of(source: Windows) -> np.ndarray:
    return np.concatenate([source[index][0] for index in range(len(source))])


SMALL = Recipe(
    Windowing(step_count=12, burn_in=4, stride=3, batch_size=8),
    Augmentation(noise=0.1),
    epochs=4,
    recurrent_units_1=4,
    recurrent_units_2=5,
    dropout=0.3,
    averaging=0.8,
    halving_epochs=2,
    checkpoint_epochs=2,
)


def noise(count: int, seed: int) -> list[Recording]:
    generator = np.random.default_rng(seed)
    made = recording(count)
    frames = generator.standard_normal((count, 10), np.float32)
    return [dataclasses.replace(made, frames=frames)]


def weights_of(path: pathlib.Path) -> list[np.ndarray]:
    weights: list[np.ndarray] = keras.saving.load_model(path).get_weights()
    return weights


def equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(one.tobytes() == other.tobytes() for one, other in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, History]:
    """A run of four epochs in one go."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    return directory, training.train(SMALL, noise(150, 1), noise(60, 2), directory)


def test_some_epochs_and_later_more_are_all_in_one_go(
    whole: tuple[pathlib.Path, History], tmp_path: pathlib.Path
) -> None:
    directory, history = whole
    parts = noise(150, 1), noise(60, 2)
    training.train(dataclasses.replace(SMALL, epochs=2), *parts, tmp_path / "parts")

    resumed = training.train(SMALL, *parts, tmp_path / "parts", resume=True)

    assert resumed.rows == history.rows
    assert equal(
        weights_of(tmp_path / "parts" / "model.keras"), weights_of(directory / "model.keras")
    )


def test_members_are_stopped_and_gone_on_with_like_one_network(tmp_path: pathlib.Path) -> None:
    recipe = dataclasses.replace(SMALL, members=2, checkpoint_epochs=9)
    parts = noise(150, 1), noise(60, 2)
    whole = training.train(recipe, *parts, tmp_path / "whole")
    # As one that was killed amid its second member.
    training.train(dataclasses.replace(recipe, epochs=2), *parts, tmp_path / "parts")
    (tmp_path / "parts" / "member-2" / "checkpoints" / "last.keras").unlink()

    resumed = training.train(recipe, *parts, tmp_path / "parts", resume=True)

    assert resumed.rows == whole.rows
    assert equal(
        weights_of(tmp_path / "parts" / "model.keras"),
        weights_of(tmp_path / "whole" / "model.keras"),
    )


def test_the_mean_of_members_with_seeds_of_their_own_is_kept(tmp_path: pathlib.Path) -> None:
    recipe = dataclasses.replace(SMALL, members=2, epochs=1)
    history = training.train(recipe, noise(150, 1), [], tmp_path / "run")
    frames = np.random.default_rng(3).standard_normal((4, 12, 10)).astype(np.float32)

    kept = keras.saving.load_model(tmp_path / "run" / "model.keras")(frames)
    members = [
        keras.saving.load_model(tmp_path / "run" / f"member-{number}" / "model.keras")(frames)
        for number in (1, 2)
    ]

    assert not np.allclose(members[0], members[1])
    np.testing.assert_allclose(kept, np.mean(members, axis=0), atol=1e-6)
    losses = [
        History(tmp_path / "run" / f"member-{number}" / "history.csv", keep=1).column("loss")[0]
        for number in (1, 2)
    ]
    assert history.column("loss") == pytest.approx([np.mean(losses)])


def test_the_mean_of_members_is_streamed_like_any_model() -> None:
    members = [
        models.RNNModel(4, 5, sensor_count=3, return_sequences=True, projection_scale=0.3)
        for _ in range(2)
    ]
    description = Description(
        "mean", "1", unnamed_sensors(3), 10.0, (Described("harsh", "probability"),)
    )
    frames = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)

    bundle = export.export(models.mean(members), description, frames, random_step_count=200)

    by_member = [np.asarray(member(frames[np.newaxis]))[0] for member in members]
    np.testing.assert_allclose(bundle.golden.outputs, np.mean(by_member, axis=0), atol=1e-6)
    # Two members of 4 + 5 recurrent units each.
    assert bundle.interface.state_size == 18
    # The mean of probabilities is one, though its last layer has no activation.
    assert bundle.interface.heads == (Head("harsh", 1, "probability"),)


def test_a_run_leaves_history_curves_and_checkpoints(
    whole: tuple[pathlib.Path, History],
) -> None:
    directory, _ = whole

    files = {str(path.relative_to(directory)) for path in directory.rglob("*.*")}
    assert files == {
        "model.keras",
        "history.csv",
        "curves.png",
        "checkpoints/last.keras",
        "checkpoints/best.keras",
        "checkpoints/epoch-0002.keras",
        "checkpoints/epoch-0004.keras",
    }
    lines = (directory / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,binary_accuracy,loss,val_binary_accuracy,val_loss"
    assert len(lines) == 5


def test_the_average_of_the_weights_is_what_is_kept(
    whole: tuple[pathlib.Path, History],
) -> None:
    directory, _ = whole

    kept = weights_of(directory / "model.keras")

    assert not equal(kept, weights_of(directory / "checkpoints" / "last.keras"))


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: pathlib.Path,
) -> None:
    class Spoil(keras.callbacks.Callback):  # type: ignore[misc]  # Keras comes without types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                kernel = self.model.get_layer("output").kernel
                kernel.assign(np.full(kernel.shape, np.nan))

    with pytest.raises(training.TrainingError, match="epoch 3: the loss is not a finite number"):
        training.train(SMALL, noise(80, 1), [], tmp_path / "run", callbacks=[Spoil()])

    kept = keras.saving.load_model(tmp_path / "run" / "checkpoints" / "last.keras")
    batches = len(Windows(noise(80, 1), SMALL.windowing))
    assert int(kept.optimizer.iterations) == 2 * batches
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())


def test_patience_is_over_after_as_many_epochs_without_gain(tmp_path: pathlib.Path) -> None:
    history = History(tmp_path / "history.csv")
    exhausted = []
    for loss in (0.5, 0.3, 0.4, 0.35):
        history.add({"val_loss": loss})
        exhausted.append(history.is_exhausted(2))

    assert exhausted == [False, False, False, True]
    assert not history.is_exhausted(None)


def test_nothing_can_be_resumed_where_nothing_is(tmp_path: pathlib.Path) -> None:
    with pytest.raises(training.TrainingError, match="nothing to resume"):
        training.train(SMALL, noise(80, 1), [], tmp_path / "run", resume=True)


def test_windows_stay_within_one_recording() -> None:
    source = Windows([recording(30), recording(25, first=100)], Windowing(step_count=7))

    assert (np.diff(frames_of(source)[:, :, 0], axis=1) == 1).all()


def test_no_frame_is_in_both_parts_of_a_split() -> None:
    first, last = windows.split_by_time([recording(40), recording(20, first=100)], 0.25)
    windowing = Windowing(step_count=5)

    learnt, validated = (frames_of(Windows(part, windowing)) for part in (first, last))

    assert not set(learnt.ravel()) & set(validated.ravel())
    assert set(learnt.ravel()) | set(validated.ravel()) == {*range(40), *range(100, 120)}


def test_burn_in_counts_for_nothing() -> None:
    _, labels, weights = Windows([recording(30)], SMALL.windowing)[0]

    assert labels.shape == (*weights.shape, 1)
    assert not weights[:, :4].any()
    assert (weights[:, 4:] == 1).all()


def test_balanced_labels_count_for_the_same() -> None:
    windowing = Windowing(step_count=4, stride=4, batch_size=10, balanced=True)

    _, labels, weights = Windows([recording(40)], windowing)[0]

    assert weights[labels[..., 0] == 1].sum() == pytest.approx(20)
    assert weights[labels[..., 0] == 0].sum() == pytest.approx(20)


def test_one_output_per_window_takes_the_last_label() -> None:
    windowing = Windowing(step_count=4, batch_size=64, each_step=False)

    frames, labels, weights = Windows([recording(40)], windowing)[0]

    assert labels.shape == (37, 1)
    assert ((frames[:, -1, 0] % 4 == 3) == labels[:, 0]).all()
    assert (weights == 1).all()


def test_an_epoch_has_an_order_of_its_own_that_the_seed_gives() -> None:
    source = Windows([recording(60)], SMALL.windowing, seed=5)
    again = Windows([recording(60)], SMALL.windowing, seed=5)
    first = frames_of(source)
    source.epoch = again.epoch = 1

    assert frames_of(source).tobytes() == frames_of(again).tobytes()
    assert frames_of(source).tobytes() != first.tobytes()


def test_a_recording_too_short_for_one_window_is_named() -> None:
    with pytest.raises(WindowError, match="ramp: the longest has 11 frames, too few"):
        Windows([recording(11)], SMALL.windowing)


def test_a_recording_without_labels_is_named() -> None:
    bare = dataclasses.replace(recording(30), labels=None)

    with pytest.raises(WindowError, match="ramp: has no labels"):
        Windows([bare], SMALL.windowing)


@pytest.mark.parametrize("change", [{"step_count": 0}, {"burn_in": 12}, {"batch_size": 0}])
def test_impossible_windows_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WindowError, match="expected at least 1"):
        dataclasses.replace(SMALL.windowing, **change)


def changed(augmentation: Augmentation, frames: np.ndarray) -> np.ndarray:
    deviations = np.full(10, 2.0, np.float32)
    return augmentation.apply(frames, NAMES, deviations, np.random.default_rng(1))


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, 7, 10)).astype(np.float32)


def test_a_turn_keeps_the_lengths_of_horizontal_vectors(frames: np.ndarray) -> None:
    turned = changed(Augmentation(turn=True), frames)

    for x, y in ((0, 1), (3, 4)):
        lengths = np.hypot(turned[..., x], turned[..., y])
        np.testing.assert_allclose(lengths, np.hypot(frames[..., x], frames[..., y]), rtol=1e-5)
    others = [2, 5, 6, 7, 8, 9]
    assert turned[..., others].tobytes() == frames[..., others].tobytes()


def test_a_gain_leaves_gravity_alone(frames: np.ndarray) -> None:
    frames[..., 5] = 9.81

    scaled = changed(Augmentation(gain=2.0), frames)

    np.testing.assert_allclose(scaled[..., 5], 9.81, rtol=1e-6)
    ratios = (scaled / frames)[..., 0]
    assert (ratios.std(axis=1) < 1e-5).all()
    assert ratios.min() >= 0.5
    assert ratios.max() <= 2.0


def test_a_window_has_all_of_its_gyroscope_or_none(frames: np.ndarray) -> None:
    silent = (changed(Augmentation(gyro_dropout=0.5), frames)[..., 6:9] == 0).all(axis=(1, 2))

    assert 0 < silent.sum() < len(silent)


def test_noise_is_as_large_as_asked_for() -> None:
    frames = np.zeros((50, 100, 10), np.float32)

    assert changed(Augmentation(noise=0.5), frames).std() == pytest.approx(1.0, rel=0.02)


def test_a_change_leaves_the_recording_as_it_was(frames: np.ndarray) -> None:
    before = frames.copy()

    changed(Augmentation(turn=True, gain=1.5, gyro_dropout=0.9, noise=1.0), frames)

    assert frames.tobytes() == before.tobytes()


def test_a_change_that_needs_a_missing_sensor_names_it(frames: np.ndarray) -> None:
    names = tuple(f"reading_{number}" for number in range(10))

    with pytest.raises(AugmentationError, match="needs the reading 'lin_acc_x'"):
        Augmentation(turn=True).apply(
            frames, names, np.ones(10, np.float32), np.random.default_rng(1)
        )


def test_a_recipe_survives_plain_data() -> None:
    assert Recipe.from_dict(SMALL.to_dict()) == SMALL
    assert Recipe.from_dict(NOISE.to_dict()) == NOISE


def test_a_history_goes_on_after_the_rows_that_are_kept(tmp_path: pathlib.Path) -> None:
    history = History(tmp_path / "history.csv")
    for loss in (0.3, 0.1, 0.2):
        history.add({"loss": loss, "val_loss": loss})

    resumed = History(tmp_path / "history.csv", keep=2)
    resumed.add({"loss": 0.05, "val_loss": 0.15})

    assert resumed.column("loss") == [0.3, 0.1, 0.05]
    assert resumed.best_epoch == 1
    assert History(tmp_path / "history.csv", keep=3).rows == resumed.rows
