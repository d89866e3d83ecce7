"""Models come from the files that people have, and nothing in a file is run."""

from __future__ import annotations

import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from tickcell.model.keras import archive, configuration
from tickcell.model.keras.archive import ModelFileError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

FRAMES = np.random.default_rng(0).standard_normal((2, 12, 4)).astype(np.float32)


def gru(*inner: Any) -> Any:
    keras.utils.set_random_seed(4)
    recurrent = layers.GRU(3, return_sequences=True)
    return keras.Sequential([keras.Input((None, 4)), *inner, recurrent, layers.Dense(2)])


def rewritten(path: pathlib.Path, change: Any) -> pathlib.Path:
    """Changes each layer's configuration in an .h5 file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            change(layer)
        file.attrs["model_config"] = json.dumps(config)
    return path


def as_keras_2_writes(layer: dict[str, Any]) -> None:
    """Changes a layer's configuration to that of Keras 2."""
    for field in ("module", "registered_name", "build_config"):
        layer.pop(field, None)
    config = layer["config"]
    config["dtype"] = "float32"
    config.pop("optional", None)
    if layer["class_name"] == "InputLayer":
        config["batch_input_shape"] = config.pop("batch_shape")
        config |= {"sparse": False, "ragged": False}
    if layer["class_name"] == "GRU":
        config |= {"time_major": False, "implementation": 2}
        config.pop("use_cudnn", None)


@pytest.fixture
def h5(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "model.h5"
    gru().save(path)
    return path


@pytest.mark.parametrize("change", [lambda layer: None, as_keras_2_writes])
def test_an_h5_file_gives_the_model_that_was_saved(h5: pathlib.Path, change: Any) -> None:
    loaded = archive.load(rewritten(h5, change))

    assert np.array_equal(np.asarray(loaded(FRAMES)), np.asarray(gru()(FRAMES)))


def test_what_keras_3_would_compute_otherwise_is_refused(h5: pathlib.Path) -> None:
    def change(layer: dict[str, Any]) -> None:
        if layer["class_name"] == "GRU":
            layer["config"]["time_major"] = True

    with pytest.raises(ModelFileError, match=r"time_major=True, .* build it with time_major=False"):
        archive.load(rewritten(h5, change))


@pytest.mark.parametrize("where", ["Lambda", "initializer", "module"])
def test_a_malicious_h5_file_leaves_nothing_behind(
    h5: pathlib.Path, tmp_path: pathlib.Path, where: str
) -> None:
    left = tmp_path / "left"

    def change(layer: dict[str, Any]) -> None:
        if layer["class_name"] != "Dense":
            return
        if where == "Lambda":
            made = layers.Lambda(lambda value: [value, os.open("LEFT", os.O_CREAT)][0])
            layer |= {"class_name": "Lambda", "config": made.get_config()}
        elif where == "initializer":
            serialised = layers.Lambda(
                lambda shape, dtype: [keras.ops.zeros(shape), os.open("LEFT", os.O_CREAT)][0]
            ).get_config()["function"]
            layer["config"]["kernel_initializer"] = serialised
        else:
            layer["config"]["kernel_initializer"] = {
                "class_name": "Path.touch",
                "module": "pathlib",
                "registered_name": None,
                "config": {"self": str(left)},
            }

    rewritten(h5, change)

    with pytest.raises(
        ModelFileError,
        match=r"(no code is run from a model's file|a model's file may not load code)",
    ):
        archive.load(h5)

    assert not left.exists()
    assert not pathlib.Path("LEFT").exists()


def test_an_h5_file_of_weights_alone_says_what_to_do(tmp_path: pathlib.Path) -> None:
    gru().save_weights(tmp_path / "model.weights.h5")

    with pytest.raises(ModelFileError, match=r"weights without a model; build the model"):
        archive.load(tmp_path / "model.weights.h5")


def test_a_saved_model_of_functions_alone_says_what_to_do(tmp_path: pathlib.Path) -> None:
    gru().export(tmp_path / "saved", verbose=False)

    with pytest.raises(ModelFileError, match=r"functions alone, .* model\.save\('model\.keras'\)"):
        archive.load(tmp_path / "saved")


def test_code_in_a_keras_file_is_named_and_not_run(tmp_path: pathlib.Path) -> None:
    gru(layers.Lambda(lambda value: value * 2, name="code")).save(tmp_path / "model.keras")

    with pytest.raises(ModelFileError, match=r"model\.keras: layer 'code' \(Lambda\) is code"):
        archive.load(tmp_path / "model.keras")


@pytest.mark.parametrize("content", [b"", b"no zip file", b"\x89HDF\r\n\x1a\nno more"])
def test_a_file_that_is_no_model_is_named(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "model.keras").write_bytes(content)

    with pytest.raises(ModelFileError, match=r"model\.keras: cannot be loaded.*; save the model"):
        archive.load(tmp_path / "model.keras")


OWN = """
import keras

@keras.saving.register_keras_serializable(package="own")
class {name}(keras.layers.Layer):
    def call(self, value):
        return value * 3.0
"""


@pytest.mark.parametrize("registered", [True, False])
def test_a_layer_of_ones_own_comes_from_the_module_that_is_named(
    tmp_path: pathlib.Path, registered: bool
) -> None:
    name = "Tripled" if registered else "TripledToo"
    lines = OWN.format(name=name).splitlines()
    if not registered:
        lines = [line for line in lines if not line.startswith("@")]
    module = tmp_path / f"own_{name.lower()}.py"
    module.write_text("\n".join(lines))
    configuration.load_custom(str(module))
    own = keras.saving.get_custom_objects()
    kind = own[name]
    gru(kind(name="own")).save(tmp_path / "model.keras")
    expected = np.asarray(gru(kind(name="own"))(FRAMES))
    for key in [key for key in own if key.endswith(name)]:
        del own[key]

    with pytest.raises(ModelFileError, match=rf"'own' is of the custom class {name}.*--custom"):
        archive.load(tmp_path / "model.keras")
    configuration.load_custom(str(module))

    assert np.array_equal(np.asarray(archive.load(tmp_path / "model.keras")(FRAMES)), expected)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelFileError, match=r"--custom no_such_module: cannot be loaded"):
        configuration.load_custom("no_such_module")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def broken(:", "SyntaxError: .*line 1"),
        ("import keras\n\nraise ValueError('bad day')", "ValueError: bad day, line 3"),
        ("import no_such_thing", "ModuleNotFoundError: No module .*, line 1"),
        ("import sys\nsys.exit(3)", "SystemExit: 3, line 2"),
    ],
)
def test_a_module_whose_code_fails_is_one_sentence(
    tmp_path: pathlib.Path, code: str, said: str
) -> None:
    module = tmp_path / "own_that_fails.py"
    module.write_text(code)

    with pytest.raises(ModelFileError, match=rf"own_that_fails\.py: cannot be loaded \({said}\)"):
        configuration.load_custom(str(module))


def test_a_module_does_not_take_the_place_of_another(tmp_path: pathlib.Path) -> None:
    module = tmp_path / "json.py"
    module.write_text("x = 1")

    with pytest.raises(ModelFileError, match=r"a module 'json' is loaded already; give the file"):
        configuration.load_custom(str(module))

    assert json.loads("1") == 1


@keras.saving.register_keras_serializable(package="tests")
class Widened(layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """Does not take what every layer's configuration has."""

    def __init__(self) -> None:
        super().__init__()

    def call(self, value: Any) -> Any:
        return value


def test_a_class_that_does_not_take_its_configuration_is_told_what_to_take(
    tmp_path: pathlib.Path,
) -> None:
    gru(Widened()).save(tmp_path / "model.keras")

    with pytest.raises(
        ModelFileError,
        match=r"\(TypeError: Widened\.__init__\(\) got an .*; let that class accept .*\*\*kwargs",
    ):
        archive.load(tmp_path / "model.keras")


def damaged(whole: pathlib.Path) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """Files in a .keras file that are something else, by what is said of them."""
    with zipfile.ZipFile(whole) as parts:
        weights = parts.read("model.weights.h5")
    other = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}}
    yield r"OSError: .*truncated file", {"model.weights.h5": weights[:500]}
    yield r"ValueError: Expected a model\.weights\.h5", {"model.weights.h5": None}
    yield r"it is not a \.keras file, .* or is incomplete", {"config.json": None}
    yield r"JSONDecodeError", {"config.json": b"{"}
    yield r"RecursionError", {"config.json": b"[" * 100_000}
    yield r"TypeError", {"config.json": b"[]"}
    yield r"holds Dense, which is not a model", {"config.json": json.dumps(other).encode()}


def test_a_keras_file_that_is_damaged_inside_is_one_sentence(tmp_path: pathlib.Path) -> None:
    whole, broken = tmp_path / "whole.keras", tmp_path / "broken.keras"
    gru().save(whole)
    for said, changed in damaged(whole):
        with zipfile.ZipFile(whole) as given, zipfile.ZipFile(broken, "w") as made:
            for name in given.namelist():
                content = changed.get(name, given.read(name))
                if content is not None:
                    made.writestr(name, content)

        with pytest.raises(ModelFileError, match=said) as refused:
            archive.load(broken)

        assert str(broken) in str(refused.value)
        assert "; " in str(refused.value), "the way out"


def test_a_litert_graph_is_sent_to_its_own_command(tmp_path: pathlib.Path) -> None:
    (tmp_path / "step.tflite").write_bytes(b"\x1c\0\0\0TFL3")

    with pytest.raises(ModelFileError, match=r"is a LiteRT graph; .* tickcell bundle\."):
        archive.load(tmp_path / "step.tflite")
