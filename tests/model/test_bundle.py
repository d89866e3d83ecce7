"""A bundle is read as it was written, or refused with a sentence that says where and why."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tickcell.model.bundle import SHIPPED, Bundle, BundleError
from tickcell.model.interface import Head, Interface, InterfaceError, Sensor, TensorSpec


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
    assert again.steps_graph == shipped.steps_graph is not None
    assert again.golden.frames.tobytes() == shipped.golden.frames.tobytes()
    assert again.golden.outputs.tobytes() == shipped.golden.outputs.tobytes()
    assert again.golden.labels is not None
    assert shipped.golden.labels is not None
    assert again.golden.labels.tobytes() == shipped.golden.labels.tobytes()


def test_the_shipped_bundle_is_as_it_was_written(caplog: pytest.LogCaptureFixture) -> None:
    Bundle.load()
    assert caplog.messages == []


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
        dataclasses.replace(Bundle.load().card, rate_hz=0.0)


def test_a_graph_that_does_not_fit_the_interface_names_the_bundle(copy: pathlib.Path) -> None:
    shipped = Bundle.load(copy)
    # Two numbers where the graph has one.
    heads = (Head("aggressive", 2, "probability"),)
    interface = dataclasses.replace(shipped.interface, heads=heads)

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
        Interface((sensor, sensor), (TensorSpec("state", (3,)),), (Head("output", 1),))


def test_a_state_must_be_float32() -> None:
    with pytest.raises(InterfaceError, match="'float64'"):
        TensorSpec("state", (3,), "float64")


@pytest.mark.parametrize("encoded", [b"", b"[]", b"{}", b'{"sensors": 3}'])
def test_an_interface_that_is_none_is_refused(encoded: bytes) -> None:
    with pytest.raises(InterfaceError):
        Interface.from_json(encoded)


@pytest.mark.parametrize(
    "name",
    ["card.json", "golden.npz", "interface.json", "step.tflite", "steps.tflite", "SHA256SUMS"],
)
def test_whatever_byte_is_changed_the_bundle_loads_or_says_so_in_a_sentence(
    copy: pathlib.Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(0)
    content = (copy / name).read_bytes()
    for _ in range(150):
        changed = bytearray(content)
        changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (copy / name).write_bytes(changed)
        caplog.clear()
        # If it is served, then not in silence.
        assert str(copy) in (complaint_of(copy) or caplog.text)


@pytest.mark.parametrize(
    "name",
    ["card.json", "golden.npz", "interface.json", "step.tflite", "steps.tflite", "SHA256SUMS"],
)
@pytest.mark.parametrize("size", [0, 1, 100])
def test_whatever_file_is_cut_the_bundle_loads_or_says_so_in_a_sentence(
    copy: pathlib.Path, name: str, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(copy / name, size)
    complaint = complaint_of(copy)
    assert (complaint is None) == (name in ("SHA256SUMS", "steps.tflite"))
    assert str(copy) in (complaint or caplog.text)


def complaint_of(path: pathlib.Path) -> str | None:
    """Loads a bundle; returns why it cannot be loaded, None if it can."""
    try:
        Bundle.load(path)
    except BundleError as error:
        return str(error)
    return None


def test_a_changed_text_is_a_warning_and_the_same_fingerprint(
    copy: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (copy / "card.json").read_text()
    meaning = Bundle.load(copy).card.outputs["aggressive"].meaning
    assert not caplog.messages
    (copy / "card.json").write_text(text.replace(meaning, "Another meaning."))
    changed = Bundle.load(copy)
    assert changed.card.outputs["aggressive"].meaning == "Another meaning."
    assert changed.fingerprint == Bundle.load().fingerprint
    assert caplog.record_tuples == [
        (
            "tickcell.model.bundle",
            logging.WARNING,
            f"{copy / 'card.json'}: was changed after the bundle was written; the "
            "computation was not.",
        )
    ]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_changed_graph_of_several_steps_is_a_warning_and_not_used(
    copy: pathlib.Path, caplog: pytest.LogCaptureFixture, is_there: bool
) -> None:
    content = bytearray((copy / "steps.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "steps.tflite").write_bytes(content)
    if not is_there:
        (copy / "steps.tflite").unlink()
    assert Bundle.load(copy).steps_graph is None
    assert caplog.messages == [
        f"{copy / 'steps.tflite'}: does not match SHA256SUMS; it is not used, so each step is "
        "a separate call."
    ]


def test_a_bundle_without_a_graph_of_several_steps_is_whole(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataclasses.replace(Bundle.load(), steps_graph=None).write(tmp_path / "bare")
    bare = Bundle.load(tmp_path / "bare")
    assert bare.steps_graph is None
    assert bare.fingerprint == Bundle.load().fingerprint
    assert not caplog.messages


def test_a_bundle_without_its_sums_is_a_warning(
    copy: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / "SHA256SUMS").unlink()
    Bundle.load(copy)
    assert caplog.messages == [
        f"{copy}: has no SHA256SUMS, so changes of its files cannot be detected.",
        f"{copy / 'steps.tflite'}: does not match SHA256SUMS; it is not used, so each step is "
        "a separate call.",
    ]


def test_the_sums_are_those_of_sha256sum(copy: pathlib.Path) -> None:
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=copy,
        check=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate_hz", "50"), ("warm_up_steps", 1.5), ("metrics", []), ("name", 1)],
)
def test_a_card_of_other_types_is_refused(copy: pathlib.Path, field: str, value: object) -> None:
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps({**card, field: value}))
    with pytest.raises(BundleError, match=f"card: got {field} "):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, r"got the outputs \[\], expected those of the interface, \['aggressive'\]"),
        ({"calm": {"threshold": 0.5}}, r"got the outputs \['calm'\]"),
        ({"aggressive": {}}, "of the kind 'probability' and has the threshold None"),
        ({"aggressive": {"threshold": "0.5"}}, "card: outputs: got threshold '0.5'"),
        ({"aggressive": {"threshold": 0.5, "unit": "m/s"}}, "a unit is of a number"),
        ({"aggressive": {"limit": 0.5}}, "cannot be read"),
        ([], "cannot be read"),
    ],
)
def test_a_card_speaks_of_the_outputs_that_there_are(
    copy: pathlib.Path, outputs: object, message: str
) -> None:
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps({**card, "outputs": outputs}))
    with pytest.raises(BundleError, match=f"card.json: .*{message}"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("sensor", "message"),
    [
        ({"min_reading": 0.5, "max_reading": 3, "whole": True}, "expected whole numbers"),
        ({"min_reading": 0, "max_reading": 3, "whole": 1}, "got whole 1, expected a bool"),
    ],
)
def test_a_whole_sensor_has_whole_limits(sensor: dict[str, Any], message: str) -> None:
    with pytest.raises(InterfaceError, match=message):
        Sensor("word", "", **sensor)


def test_classes_are_two_or_more() -> None:
    with pytest.raises(InterfaceError, match="is of classes and has one number"):
        Head("activity", 1, "classes", ("walk",))


def test_a_bundle_is_replaced_by_another(copy: pathlib.Path) -> None:
    other = dataclasses.replace(
        Bundle.load(), card=dataclasses.replace(Bundle.load().card, version="other")
    )
    other.write(copy, replace=True)
    assert Bundle.load(copy).card.version == "other"
    assert not (copy / "model.keras").exists()
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


REPLACING = """
import dataclasses, sys
from tickcell.model import Bundle
bundle = Bundle.load()
others = [
    dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, version=version))
    for version in ("a", "b")
]
print("ready", flush=True)
while True:
    for other in others:
        other.write(sys.argv[1], replace=True)
"""


@pytest.mark.parametrize("seed", range(5))
def test_a_bundle_is_whole_whenever_its_writer_is_killed(
    tmp_path: pathlib.Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "bundle"
    Bundle.load().write(place)
    chance = random.Random(seed)
    with subprocess.Popen(
        [sys.executable, "-c", REPLACING, place], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        try:
            writer.wait(chance.uniform(0.0, 0.3))
        except subprocess.TimeoutExpired:
            writer.send_signal(signal.SIGKILL)
    loaded = Bundle.load(place)
    assert loaded.fingerprint == Bundle.load().fingerprint
    assert not caplog.messages
    # What the kill left beside it goes with the next.
    loaded.write(place, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
