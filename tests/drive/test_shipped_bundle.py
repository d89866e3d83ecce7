"""What the shipped bundle's card says is so, and its graph is that of its model."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tickcell import drive
from tickcell.drive.keras import datasets, quality
from tickcell.model import agreement
from tickcell.model import recording as recordings_of
from tickcell.model.bundle import SHIPPED, Bundle
from tickcell.model.cell import BATCH_SHAPES
from tickcell.model.keras import archive, full_sequence
from tickcell.model.keras.plan import Plan
from tickcell.model.keras.step import Step
from tickcell.model.recording import Recording

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def plan(shipped: Bundle) -> Plan:
    assert shipped.keras_path is not None
    return Step(archive.load(shipped.keras_path)).plan


@pytest.fixture(scope="module")
def held_out() -> list[Recording]:
    return datasets.held_out()


def test_converting_the_model_again_gives_the_same_graph(
    shipped: Bundle, tmp_path: pathlib.Path
) -> None:
    """To the byte on a machine like the one that converted it, else but for a last bit.

    The converter folds the normalisation into factors, by the vector instructions of
    the machine that it runs on.
    """
    # In a process of its own: what one process numbers, another numbers anew.
    code = (
        "import pathlib, sys\n"
        "from tickcell.model.keras import archive, conversion\n"
        "from tickcell.model.keras.step import Step\n"
        "graph = conversion.convert(Step(archive.load(sys.argv[1])))\n"
        "pathlib.Path(sys.argv[2]).write_bytes(graph)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(shipped.keras_path), tmp_path / "step.tflite"], check=True
    )
    converted = np.frombuffer((tmp_path / "step.tflite").read_bytes(), "<i4")
    before = np.frombuffer(shipped.step_graph, "<i4")
    assert len(converted) == len(before)
    differing = np.flatnonzero(converted != before)
    assert len(differing) <= shipped.interface.sensor_count
    # Neighbours among float32, by their bits.
    assert np.abs(converted[differing] - before[differing]).max(initial=0) <= 1


def test_it_takes_the_ten_sensors_at_50_hz(shipped: Bundle) -> None:
    assert shipped.interface.sensors == drive.SENSORS
    assert shipped.card.rate_hz == drive.RATE_HZ
    assert shipped.interface.output_names == ("aggressive",)


def test_it_is_the_two_layer_network(plan: Plan, shipped: Bundle) -> None:
    sizes = [(tensor.name, tensor.shape) for tensor in shipped.interface.state_tensors]

    assert sizes == [("recurrent_1", (24,)), ("recurrent_2", (48,))]
    assert (plan.sensor_count, plan.output_count) == (10, 1)


def test_every_batch_shape_gives_the_bits_of_a_batch_of_one(shipped: Bundle) -> None:
    assert shipped.cell().batch_shapes == BATCH_SHAPES


def test_the_golden_is_a_drive_of_a_minute_that_nothing_was_learnt_from(shipped: Bundle) -> None:
    golden = shipped.golden
    recorded = datasets.golden()

    assert golden.frames.tobytes() == recorded.frames.tobytes()
    assert golden.labels is not None
    assert 0 < golden.labels.mean() < 1


def test_the_golden_outputs_are_those_of_its_keras_model(shipped: Bundle) -> None:
    assert shipped.keras_path is not None

    again = full_sequence(shipped.keras_path, shipped.golden.frames)

    # Not the bits: another CPU may add up in another order.
    delta = np.abs(again - shipped.golden.outputs)
    assert delta.max() <= 1e-5, f"max |delta| {delta.max()} at step {delta.argmax()}"


def test_it_does_on_held_out_drives_what_its_card_says(
    shipped: Bundle, held_out: list[Recording]
) -> None:
    stated = shipped.card.metrics["held_out_drives"]

    measured = quality.measure(shipped, held_out, stated["single_frame_roc_auc"])

    assert measured["streamed"]["roc_auc"] == pytest.approx(stated["streamed"]["roc_auc"], abs=1e-3)
    assert measured["streamed"]["roc_auc"] >= 0.9
    assert measured["lead"] >= 0.1


def test_a_network_below_the_mark_is_refused(shipped: Bundle, held_out: list[Recording]) -> None:
    with pytest.raises(quality.QualityError, match=r"expected at least 0\.9 and 0\.1"):
        quality.measure(shipped, held_out, single_frame=0.9)


@pytest.mark.parametrize("trip", ["trip17.csv", "trip20.csv"])
def test_on_real_drives_it_is_alive_and_agrees_with_keras(
    trip: str, shipped: Bundle, recordings: pathlib.Path
) -> None:
    frames = recordings_of.read(recordings / trip, drive.SENSORS).frames
    assert shipped.keras_path is not None

    streamed = agreement.stream(shipped.cell(), frames[np.newaxis])[0]

    delta = np.abs(streamed - full_sequence(shipped.keras_path, frames))
    low, high = np.percentile(streamed, [5, 95])
    print(f"{trip}: max |delta| {delta.max():.2g}, outputs from {low:.3f} to {high:.3f}")
    assert delta.max() <= 1e-5, f"max |delta| {delta.max()} at step {delta.argmax()}"
    assert high - low >= 0.2


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 400_000
