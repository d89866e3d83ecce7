"""The two ways of docs/pytorch.md from PyTorch to a bundle, as they are written there."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import keras
import numpy as np
import pytest

from tickcell.cli import command_line
from tickcell.model.bundle import Bundle
from tickcell.model.keras import agreement

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "pytorch.md"

# torch and litert-torch need packages of other versions than this project's.
PYTHON = os.environ.get("TORCH_PYTHON", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="set TORCH_PYTHON to a Python that has torch and litert-torch"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]

_SAVE = """
torch.manual_seed(1)
layer = torch.nn.LSTM(6, 5, batch_first=True)
weights = [gru(recurrent, 0), gru(recurrent, 1), dense(head), lstm(layer)]
arrays = {f"{n}_{i}": array for n, each in enumerate(weights) for i, array in enumerate(each)}
np.savez("weights.npz", lstm=layer(frames[None])[0][0].detach().numpy(), **arrays)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Runs the document's Python where torch is."""
    directory = tmp_path_factory.mktemp("torch")
    weights, step = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    code = weights.replace("import keras\n", "") + step + _SAVE
    subprocess.run([PYTHON, "-c", code], cwd=directory, check=True)
    return directory


def streamed(bundle: pathlib.Path, frames: np.ndarray) -> np.ndarray:
    outputs = agreement.stream(Bundle.load(bundle).cell(), frames[np.newaxis])
    return np.asarray(outputs[0])


def test_a_gru_of_torch_is_served_by_litert_torch(
    made: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (command,) = re.findall(r"```\n(tickcell bundle.*?)```", DOCUMENT.read_text(), re.DOTALL)
    arguments = [each for each in command.split()[1:] if each != "\\"]
    paths = {"step.tflite": made, "golden.npz": made, "bundle": tmp_path}
    arguments[1:] = [str(paths[each] / each) if each in paths else each for each in arguments[1:]]

    assert command_line.main(arguments) == 0

    golden = np.load(made / "golden.npz")
    delta = np.abs(streamed(tmp_path / "bundle", golden["frames"]) - golden["outputs"])
    print(f"litert-torch: max |delta| {delta.max():.2g}")
    assert delta.max() <= 1e-5
    assert golden["outputs"].std() >= 1e-3


def test_a_gru_and_an_lstm_of_torch_are_served_by_keras(
    made: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    golden, weights = np.load(made / "golden.npz"), np.load(made / "weights.npz")
    frames = keras.Input((None, 6))
    grus = [keras.layers.GRU(16, return_sequences=True) for _ in range(2)]
    head, lstm = keras.layers.Dense(1), keras.layers.LSTM(5, return_sequences=True)
    outputs = [head(grus[1](grus[0](frames))), lstm(frames)]
    for number, layer in enumerate([*grus, head, lstm]):
        layer.set_weights([weights[f"{number}_{each}"] for each in range(len(layer.weights))])
    keras.Model(frames, outputs).save(tmp_path / "walk.keras")
    export = ["export", str(tmp_path / "walk.keras"), "--rate-hz=50"]

    assert command_line.main([*export, f"--out={tmp_path / 'bundle'}"]) == 0

    expected = np.concatenate([golden["outputs"], weights["lstm"]], axis=1)
    delta = np.abs(streamed(tmp_path / "bundle", golden["frames"]) - expected)
    print(f"Keras: max |delta| {delta.max():.2g}")
    assert delta.max() <= 1e-5
