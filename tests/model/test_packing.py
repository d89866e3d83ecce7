"""A graph of one step that was made without Keras is served, once its owner says what is what."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tickcell.cli import command_line
from tickcell.model.bundle import Bundle
from tickcell.model.cell import BATCH_SHAPES, CellError
from tickcell.model.packing import Wiring, pack

SENSORS, FIRST, SECOND = 3, 4, 4
_DRAWN = np.random.default_rng(0)
W1 = _DRAWN.normal(0, 0.5, (SENSORS + FIRST, FIRST)).astype(np.float32)
W2 = _DRAWN.normal(0, 0.5, (FIRST + SECOND, SECOND)).astype(np.float32)
FRAMES = _DRAWN.standard_normal((300, SENSORS)).astype(np.float32)
WIRING = Wiring("frame", {"low": ("a", "b"), "high": ("b", "a")}, {"sum": "sum", "both": "both"})


def graph(batch: int | None) -> bytes:
    """Two recurrent layers, whose next states have each other's names."""

    class Model(tf.Module):  # type: ignore[misc]  # TensorFlow comes without types
        @tf.function(
            input_signature=[
                tf.TensorSpec((batch, SENSORS), name="frame"),
                tf.TensorSpec((batch, FIRST), name="a"),
                tf.TensorSpec((batch, 1, SECOND), name="b"),
            ]
        )
        def step(self, frame, a, b):  # type: ignore[no-untyped-def]
            low = tf.tanh(tf.concat([frame, a], 1) @ W1)
            high = tf.tanh(tf.concat([low, b[:, 0]], 1) @ W2)
            total = tf.reduce_sum(high, axis=1, keepdims=True)
            return {"sum": total, "both": low + high, "b": low, "a": high[:, None]}

    model = Model()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [model.step.get_concrete_function()], model
    )
    return bytes(converter.convert())


def expected() -> np.ndarray:
    low, high = np.zeros(FIRST, np.float32), np.zeros(SECOND, np.float32)
    rows = []
    for frame in FRAMES:
        low = np.tanh(np.concatenate([frame, low]) @ W1)
        high = np.tanh(np.concatenate([low, high]) @ W2)
        rows.append([high.sum(), *(low + high)])
    return np.array(rows, np.float32)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("graphs")
    (directory / "any.tflite").write_bytes(graph(None))
    (directory / "one.tflite").write_bytes(graph(1))
    np.savez(directory / "golden.npz", frames=FRAMES, outputs=expected())
    np.savez(directory / "frames.npz", frames=FRAMES)
    return directory


def arguments(graphs: pathlib.Path, name: str, out: pathlib.Path, *more: str) -> list[str]:
    named = names(graphs / f"{name}.tflite")
    return [
        "bundle",
        str(graphs / f"{name}.tflite"),
        f"--out={out}",
        "--rate-hz=50",
        f"--frame={named['frame']}",
        f"--state=low={named['a']}:{named['b out']}",
        f"--state=high={named['b']}:{named['a out']}",
        f"--output=sum={named['sum']}",
        f"--output=both={named['both']}",
        *more,
    ]


def names(path: pathlib.Path) -> dict[str, str]:
    """What the converter calls the tensors; it keeps the names that they were given."""
    return {
        **{name: name for name in ("frame", "a", "b", "sum", "both")},
        "a out": "a",
        "b out": "b",
    }


@pytest.mark.parametrize("name", ["any", "one"])
def test_a_graph_becomes_a_bundle_that_computes_what_it_was_made_of(
    name: str, graphs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    golden = f"--golden={graphs / 'golden.npz'}"

    assert command_line.main(arguments(graphs, name, tmp_path / "bundle", golden)) == 0

    bundle = Bundle.load(tmp_path / "bundle")
    cell = bundle.cell()
    assert bundle.interface.output_names == ("sum", "both_1", "both_2", "both_3", "both_4")
    assert cell.batch_shapes == (BATCH_SHAPES if name == "any" else (1,))
    assert bundle.card.keras_max_delta is None
    state = cell.initial_state(2)
    for frame, output in zip(FRAMES, expected(), strict=True):
        outputs, state = cell.step(np.stack([frame, frame]), state)
        assert np.abs(outputs - output).max() <= 1e-5


def test_states_that_are_paired_wrongly_are_caught_by_the_golden(
    graphs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crossed = [
        argument.replace("low=a:b", "low=a:a").replace("high=b:a", "high=b:b")
        for argument in arguments(graphs, "any", tmp_path / "bundle")
    ]

    status = command_line.main([*crossed, f"--golden={graphs / 'golden.npz'}"])

    assert status == 1
    assert "look at the pairing of its states" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_without_a_reference_the_card_says_so(
    graphs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = f"--golden={graphs / 'frames.npz'}"

    assert command_line.main(arguments(graphs, "any", tmp_path / "bundle", golden)) == 0

    assert Bundle.load(tmp_path / "bundle").card.metrics["golden_outputs"] == "the graph's own"
    assert "nothing says that the graph computes" in capsys.readouterr().out


def test_what_is_not_in_the_graph_or_left_over_is_named(graphs: pathlib.Path) -> None:
    content = (graphs / "any.tflite").read_bytes()

    with pytest.raises(CellError, match=r"inputs \['a', 'frame'\], expected each of .*'b': "):
        pack(content, Wiring("frame", {"low": ("a", "b")}, {"sum": "sum"}))
    with pytest.raises(CellError, match="is not a LiteRT"):
        pack(b"no graph", WIRING)
