"""A bundle is read as it was written, or refused with a sentence that says where and why."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from tickcell.model.bundle import SHIPPED, Bundle, BundleError, Card
from tickcell.model.interface import Interface, InterfaceError, Sensor, TensorSpec


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the shipped bundle, to be damaged."""
    return pathlib.Path(shutil.copytree(SHIPPED, tmp_path / "copy"))


def test_a_bundle_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    shipped = Bundle.load()
    assert shipped.keras_path is not None

    shipped.write(tmp_path / "again", shipped.keras_path.read_bytes())

    again = Bundle.load(tmp_path / "again")
    assert again.interface == shipped.interface
    assert again.card == shipped.card
    assert again.fingerprint == shipped.fingerprint
    assert again.step_graph == shipped.step_graph
    assert again.golden.frames.tobytes() == shipped.golden.frames.tobytes()
    assert again.golden.outputs.tobytes() == shipped.golden.outputs.tobytes()
    assert again.golden.labels is not None
    assert shipped.golden.labels is not None
    assert again.golden.labels.tobytes() == shipped.golden.labels.tobytes()


def test_a_bundle_without_labels_and_keras_model_is_whole(tmp_path: pathlib.Path) -> None:
    shipped = Bundle.load()
    golden = dataclasses.replace(shipped.golden, labels=None)

    dataclasses.replace(shipped, golden=golden).write(tmp_path / "bare")

    bare = Bundle.load(tmp_path / "bare")
    assert bare.golden.labels is None
    assert bare.keras_path is None


def test_a_bundle_is_not_written_over_another(copy: pathlib.Path) -> None:
    before = {path: path.read_bytes() for path in copy.iterdir()}

    with pytest.raises(BundleError, match="is not empty"):
        Bundle.load().write(copy)

    assert {path: path.read_bytes() for path in copy.iterdir()} == before


@pytest.mark.parametrize("name", ["step.tflite", "interface.json"])
def test_a_tampered_file_is_refused_by_the_fingerprint(copy: pathlib.Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[-3] ^= 1
    (copy / name).write_bytes(content)

    with pytest.raises(BundleError, match="have the fingerprint"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["step.tflite", "interface.json", "card.json", "golden.npz"])
def test_a_missing_file_is_named(copy: pathlib.Path, name: str) -> None:
    (copy / name).unlink()

    with pytest.raises(BundleError, match=name):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["card.json", "golden.npz"])
def test_a_truncated_file_is_named(copy: pathlib.Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])

    with pytest.raises(BundleError, match=name):
        Bundle.load(copy)


def test_a_directory_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        Bundle.load(tmp_path / "nowhere")


def test_a_golden_of_another_width_is_refused(copy: pathlib.Path) -> None:
    golden = Bundle.load(copy).golden
    np.savez(copy / "golden.npz", frames=golden.frames[:, 1:], outputs=golden.outputs)

    with pytest.raises(BundleError, match=r"golden\.npz: got frames"):
        Bundle.load(copy)


def test_a_golden_with_fewer_labels_than_frames_is_refused(copy: pathlib.Path) -> None:
    golden = Bundle.load(copy).golden
    np.savez(
        copy / "golden.npz",
        frames=golden.frames,
        outputs=golden.outputs,
        labels=np.zeros(3, np.float32),
    )

    with pytest.raises(BundleError, match=r"golden\.npz: got labels"):
        Bundle.load(copy)


def test_a_golden_with_pickled_objects_is_not_opened(copy: pathlib.Path) -> None:
    golden = Bundle.load(copy).golden
    frames = np.array([{"not": "a frame"}], dtype=object)
    np.savez(copy / "golden.npz", frames=frames, outputs=golden.outputs)

    with pytest.raises(BundleError, match=r"golden\.npz"):
        Bundle.load(copy)


def test_an_unknown_field_of_the_card_is_refused(copy: pathlib.Path) -> None:
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps({**card, "colour": "blue"}))

    with pytest.raises(BundleError, match="colour"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["", "-drive", "drive/../x", "a b", "x" * 64])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="got the name"):
        dataclasses.replace(Bundle.load().card, name=name)


def test_a_rate_must_be_above_zero() -> None:
    with pytest.raises(BundleError, match="rate_hz"):
        Card("drive", "1", 0.0, "", 0.5, 0, 0.0, 0, {}, {})


def test_a_graph_that_does_not_fit_the_interface_names_the_bundle(copy: pathlib.Path) -> None:
    shipped = Bundle.load(copy)
    interface = dataclasses.replace(shipped.interface, output_names=("a", "b"))

    with pytest.raises(BundleError, match="copy"):
        dataclasses.replace(shipped, interface=interface).cell()


def test_the_fingerprint_does_not_depend_on_the_card() -> None:
    shipped = Bundle.load()
    renamed = dataclasses.replace(shipped, card=dataclasses.replace(shipped.card, name="other"))

    assert renamed.fingerprint == shipped.fingerprint


@pytest.mark.parametrize(
    "limits", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))]
)
def test_a_sensor_needs_a_range(limits: tuple[float, float]) -> None:
    with pytest.raises(InterfaceError, match="sensor 'gyro_z': got the range"):
        Sensor("gyro_z", "rad/s", *limits)


def test_names_must_differ() -> None:
    sensor = Sensor("gyro_z", "rad/s", -1.0, 1.0)

    with pytest.raises(InterfaceError, match="not all different"):
        Interface((sensor, sensor), (TensorSpec("state", (3,)),), ("output",))


def test_a_state_must_be_float32() -> None:
    with pytest.raises(InterfaceError, match="'float64'"):
        TensorSpec("state", (3,), "float64")


@pytest.mark.parametrize("encoded", [b"", b"[]", b"{}", b'{"sensors": 3}'])
def test_an_interface_that_is_none_is_refused(encoded: bytes) -> None:
    with pytest.raises(InterfaceError):
        Interface.from_json(encoded)
