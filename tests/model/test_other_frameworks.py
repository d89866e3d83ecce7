"""The ways of docs/pytorch.md from PyTorch and JAX to a server, run as they are written there."""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable

import keras
import numpy as np
import pytest

import documents
import streaming_proof
from tickcell.cli import command_line, server_process
from tickcell.client import Session
from tickcell.model.bundle import Bundle

DOCUMENT = documents.Document.read(pathlib.Path(__file__).parents[2] / "docs" / "pytorch.md")

# They need packages of other versions than this project's.
TORCH_PYTHON = os.environ.get("TORCH_PYTHON", "")
JAX_PYTHON = os.environ.get("JAX_PYTHON", "")

needs_torch = pytest.mark.skipif(
    not TORCH_PYTHON, reason="set TORCH_PYTHON to a Python that has torch and litert-torch"
)
needs_jax = pytest.mark.skipif(
    not JAX_PYTHON, reason="set JAX_PYTHON to a Python that has jax and tensorflow"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]

# What the sixth last reading of the first sensor was: only a network that remembers learns it.
_TRAIN_TORCH = """
torch.manual_seed(1)
optimiser = torch.optim.Adam([*recurrent.parameters(), *head.parameters()], 1e-2)
for _ in range(30):
    drawn = torch.randn(32, 40, 6)
    loss = ((whole(drawn)[:, 5:, 0] - drawn[:, :-5, 0]) ** 2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
"""
_TRAIN_JAX = """
def loss(weights, drawn):
    return ((whole(weights, drawn)[:, 5:, 0] - drawn[:, :-5, 0]) ** 2).mean()

descend = jax.jit(jax.grad(loss))
for number in range(30):
    slopes = descend(weights, jax.random.normal(jax.random.key(number), (32, 40, 6)))
    weights = jax.tree.map(lambda weight, slope: weight - 0.1 * slope, weights, slopes)
"""
_SAVE_LSTM = """
layer = torch.nn.LSTM(6, 5, batch_first=True)
np.savez("lstm.npz", *lstm(layer))
np.save("lstm.npy", layer(frames[None])[0][0].detach().numpy())
"""


def blocks(environment: str) -> list[str]:
    start = f"# In {environment}'s environment.\n"
    return [block.code for block in DOCUMENT.blocks if block.code.startswith(start)]


def run(python: str, code: str, directory: pathlib.Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run([python, "-c", code], cwd=directory, check=True, env=environment)


def command(beginning: str, *, holding: str = "") -> list[str]:
    """The one command of the document that begins so."""
    (found,) = (
        block.code
        for block in DOCUMENT.blocks
        if block.code.startswith(f"tickcell {beginning}") and holding in block.code
    )
    return shlex.split(found.replace("\\\n", " "))[1:]


@pytest.fixture(scope="module")
def torch_made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the document's blocks leave where torch is."""
    directory = tmp_path_factory.mktemp("torch")
    network, *rest = blocks("torch")
    run(TORCH_PYTHON, "\n".join([network, _TRAIN_TORCH, *rest, _SAVE_LSTM]), directory)
    return directory


@pytest.fixture(scope="module")
def jax_made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("jax")
    network, *rest = blocks("JAX")
    run(JAX_PYTHON, "\n".join([network, _TRAIN_JAX, *rest]), directory)
    return directory


@pytest.fixture
def proven(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> Callable[[pathlib.Path, list[str]], Bundle]:
    """Runs a command, serves what it makes, and compares it with the framework's outputs."""

    def prove(made: pathlib.Path, arguments: list[str]) -> Bundle:
        monkeypatch.chdir(made)
        arguments[arguments.index("--out") + 1] = str(tmp_path / "bundle")
        assert command_line.main(arguments) == 0
        bundle = Bundle.load(tmp_path / "bundle")
        golden = np.load(made / "golden.npz")
        frames, expected = golden["frames"], golden["outputs"]
        with (
            server_process.temporary("--bundle", str(tmp_path / "bundle")) as server,
            Session.create(server.address) as session,
        ):
            streamed = np.stack(list(session.stream(frames)))
        delta = float(np.abs(streamed - expected).max())
        print(f"{' '.join(arguments[:2])}: max |delta| {delta:.2g} over {len(frames)} frames")
        assert delta <= 1e-5
        streaming_proof.assert_moves(expected[np.newaxis], bundle.interface.output_names)
        streaming_proof.assert_remembers(bundle.cell(), frames[np.newaxis])
        streaming_proof.assert_each_state_matters(
            bundle.cell(), frames[np.newaxis], expected[np.newaxis]
        )
        return bundle

    return prove


@needs_torch
def test_a_gru_of_torch_is_served_by_keras(
    torch_made: pathlib.Path, proven: Callable[[pathlib.Path, list[str]], Bundle]
) -> None:
    run(sys.executable, "\n".join(blocks("tickcell")), torch_made)

    bundle = proven(torch_made, command("export"))

    assert max(bundle.cell().batch_shapes) == 256


@needs_torch
def test_a_gru_of_torch_is_served_by_litert_torch(
    torch_made: pathlib.Path, proven: Callable[[pathlib.Path, list[str]], Bundle]
) -> None:
    bundle = proven(torch_made, command("bundle", holding="args_0"))

    assert bundle.cell().batch_shapes == (1,)


@needs_torch
def test_an_lstm_of_keras_takes_the_weights_of_torch(torch_made: pathlib.Path) -> None:
    model = keras.Sequential([keras.Input((None, 6)), keras.layers.LSTM(5, return_sequences=True)])
    with np.load(torch_made / "lstm.npz") as weights:
        model.set_weights([weights[name] for name in weights.files])

    outputs = model.predict(np.load(torch_made / "golden.npz")["frames"][np.newaxis], verbose=0)

    expected = np.load(torch_made / "lstm.npy")
    assert np.abs(outputs[0] - expected).max() <= 1e-5
    assert expected.std(axis=0).min() >= streaming_proof.LEAST_DEVIATION


@needs_jax
def test_a_gru_of_jax_is_served_by_jax2tf(
    jax_made: pathlib.Path, proven: Callable[[pathlib.Path, list[str]], Bundle]
) -> None:
    bundle = proven(jax_made, command("bundle", holding="next_hidden"))

    assert max(bundle.cell().batch_shapes) == 256


@needs_jax
def test_a_keras_model_of_the_jax_backend_is_exported(tmp_path: pathlib.Path) -> None:
    code = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras, numpy as np
model = keras.Sequential(
    [keras.Input((None, 6)), keras.layers.GRU(16, return_sequences=True), keras.layers.Dense(1)]
)
model.compile("adam", "mse")
frames = np.random.default_rng(0).standard_normal((32, 40, 6), np.float32)
model.fit(frames, np.cumsum(frames[..., :1], axis=1), epochs=2, verbose=0)
model.save("walk.keras")
np.savez("golden.npz", frames=frames[0], outputs=model.predict(frames[:1], verbose=0)[0])
"""
    run(JAX_PYTHON, code, tmp_path)
    out = tmp_path / "bundle"

    export = ["export", str(tmp_path / "walk.keras"), "--rate-hz=50", f"--out={out}"]
    assert command_line.main([*export, f"--golden={tmp_path / 'golden.npz'}"]) == 0

    expected = np.load(tmp_path / "golden.npz")["outputs"]
    assert np.abs(Bundle.load(out).golden.outputs - expected).max() <= 1e-5
