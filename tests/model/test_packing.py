"""A graph of one step that was made without Keras is served, once its owner says what is what."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tickcell.cli import command_line
from tickcell.model.bundle import Bundle, cell_of
from tickcell.model.cell import BATCH_SHAPES, CellError
from tickcell.model.interface import Head, Interface, unnamed_sensors
from tickcell.model.packing import Wiring, pack

SENSORS, FIRST, SECOND = 3, 4, 4
_DRAWN = np.random.default_rng(0)
W1 = _DRAWN.normal(0, 0.5, (SENSORS + FIRST, FIRST)).astype(np.float32)
W2 = _DRAWN.normal(0, 0.5, (FIRST + SECOND, SECOND)).astype(np.float32)
FRAMES = _DRAWN.standard_normal((300, SENSORS)).astype(np.float32)
WIRING = Wiring("frame", {"low": ("a", "b"), "high": ("b", "a")}, {"sum": "sum", "both": "both"})


def step(batch: int | None, axis: int = 0) -> Any:
    """Two recurrent layers, whose next states have each other's names.

    The second state has another axis beside that of series: behind it, or before it as torch
    has its layers.
    """
    second = (batch, 1, SECOND) if axis == 0 else (1, batch, SECOND)

    @tf.function(
        input_signature=[
            tf.TensorSpec((batch, SENSORS), name="frame"),
            tf.TensorSpec((batch, FIRST), name="a"),
            tf.TensorSpec(second, name="b"),
        ]
    )
    def run(frame, a, b):  # type: ignore[no-untyped-def]
        low = tf.tanh(tf.concat([frame, a], 1) @ W1)
        high = tf.tanh(tf.concat([low, tf.squeeze(b, 1 - axis)], 1) @ W2)
        total = tf.reduce_sum(high, axis=1, keepdims=True)
        turned = tf.expand_dims(high, 1 - axis)
        return {"sum": total, "both": low + high, "b": low, "a": turned}

    return run.get_concrete_function()


def graph(steps: dict[str, Any], place: pathlib.Path) -> bytes:
    """Converts a step, or several as signatures of one file."""
    if list(steps) == [""]:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([*steps.values()], tf.Module())
        return bytes(converter.convert())
    tf.saved_model.save(tf.Module(), str(place), signatures=steps)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(place), signature_keys=[*steps])
    return bytes(converter.convert())


GRAPHS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "any": ({"": lambda: step(None)}, BATCH_SHAPES),
    "one": ({"": lambda: step(1)}, (1,)),
    "one, state turned": ({"": lambda: step(1, 1)}, (1,)),
    "eight": ({"step_8": lambda: step(8)}, (8,)),
    "one and six": ({"step": lambda: step(1), "step_6": lambda: step(6)}, (1, 6)),
    "one, four and nine, state turned": (
        {
            f"step_{batch}" if batch > 1 else "serve": (lambda b=batch: step(b, 1))
            for batch in (1, 4, 9)
        },
        (1, 4, 9),
    ),
    "any and six": (
        {"step": lambda: step(None), "step_6": lambda: step(6)},
        tuple(sorted([*BATCH_SHAPES, 6])),
    ),
}


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
    for name, (steps, _) in GRAPHS.items():
        made = {key: build() for key, build in steps.items()}
        content = graph(made, directory / name)
        (directory / f"{name}.tflite").write_bytes(content)
    (directory / "eight of no name.tflite").write_bytes(graph({"": step(8)}, directory))
    np.savez(directory / "golden.npz", frames=FRAMES, outputs=expected())
    np.savez(directory / "frames.npz", frames=FRAMES)
    return directory


def arguments(graphs: pathlib.Path, name: str, out: pathlib.Path, *more: str) -> list[str]:
    named = names()
    return [
        "bundle",
        str(graphs / f"{name}.tflite"),
        f"--out={out}",
        "--rate-hz=50",
        "--name=made",
        f"--frame={named['frame']}",
        f"--state=low={named['a']}:{named['b out']}",
        f"--state=high={named['b']}:{named['a out']}",
        f"--output=sum={named['sum']}",
        f"--output=both={named['both']}",
        *more,
    ]


def names() -> dict[str, str]:
    """What the converter calls the tensors; it keeps the names that they were given."""
    return {
        **{name: name for name in ("frame", "a", "b", "sum", "both")},
        "a out": "a",
        "b out": "b",
    }


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_becomes_a_bundle_that_computes_what_it_was_made_of(
    name: str, graphs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    golden = f"--golden={graphs / 'golden.npz'}"

    assert command_line.main(arguments(graphs, name, tmp_path / "bundle", golden)) == 0

    bundle = Bundle.load(tmp_path / "bundle")
    cell = bundle.cell()
    assert bundle.interface.output_names == ("sum", "both_1", "both_2", "both_3", "both_4")
    # Which shapes have the same bits, the machine's kernels decide; none has to be dropped here.
    assert cell.batch_shapes == GRAPHS[name][1]
    assert bundle.card.metrics["batch_shapes"] == list(cell.batch_shapes)
    assert bundle.card.keras_max_delta is None
    # Series of different frames, in an order of their own, as many as no shape is for.
    starts = np.arange(23) * 7 % 20
    state = cell.initial_state(len(starts))
    for index in range(len(FRAMES) - 20):
        outputs, state = cell.step(FRAMES[index + starts], state)
        if index == 0:
            first = outputs.copy()
    alone, right = cell.initial_state(), expected()
    one_by_one = []
    for index in range(len(FRAMES) - 20):
        output, alone = cell.step(FRAMES[index], alone)
        assert np.abs(output - right[index]).max() <= 1e-5
        one_by_one.append(output)
    # Chunks gain, where one series is a call, and have the same bits.
    assert (bundle.steps_graph is None) == (1 not in cell.batch_shapes)
    in_a_chunk, last = cell.steps(FRAMES[:-20], cell.initial_state())
    assert in_a_chunk.tobytes() == np.stack(one_by_one).tobytes()
    assert last.tobytes() == alone.tobytes()
    assert (cell.stretch_step_count > 1) == (bundle.steps_graph is not None)
    assert output.tobytes() == outputs[starts == 0][0].tobytes()
    assert len(np.unique(first[:, 0])) == 20


@pytest.mark.parametrize("batch", [8, 1])
def test_a_batch_that_is_not_said_is_asked_for(
    graphs: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    batch: int,
) -> None:
    given = arguments(graphs, "eight of no name", tmp_path / "bundle")

    assert command_line.main(given) == 1
    assert "begin with 8; say with --batch 8 that it takes 8" in capsys.readouterr().err

    assert command_line.main([*given, f"--batch={batch}"]) == 0
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.cell().batch_shapes == (batch,)
    assert bundle.interface.sensor_count == SENSORS * 8 // batch
    assert ("takes 8 series at a time" in capsys.readouterr().out) == (batch == 8)


def test_an_axis_of_series_that_cannot_be_told_is_refused(tmp_path: pathlib.Path) -> None:
    square = graph({f"step_{FIRST}": step(FIRST)}, tmp_path)

    with pytest.raises(CellError, match=r"'a' has the shape \[4, 4\], in which the axis of 4"):
        pack(square, WIRING)


def test_signatures_of_other_steps_are_refused(tmp_path: pathlib.Path) -> None:
    other = graph({"step": step(1), "other": step(None)}, tmp_path)

    with pytest.raises(CellError, match="got 2 signatures, expected one of a step, and others"):
        pack(other, WIRING)


def test_rows_that_depend_on_each_other_are_refused(tmp_path: pathlib.Path) -> None:
    @tf.function(
        input_signature=[tf.TensorSpec((4, 2), name="frame"), tf.TensorSpec((4, 3), name="a")]
    )
    def run(frame, a):  # type: ignore[no-untyped-def]
        mixed = tf.tanh(a + tf.reduce_sum(frame))
        return {"sum": mixed, "b": mixed}

    mixing = graph({"step_4": run.get_concrete_function()}, tmp_path)
    packed = pack(mixing, Wiring("frame", {"low": ("a", "b")}, {"sum": "sum"}))
    interface = Interface(unnamed_sensors(2), packed.state_tensors, (Head("sum", 3),))

    with pytest.raises(CellError, match="a row of its batch of 4 depends on the others"):
        cell_of(packed.graph, interface)


def test_states_that_are_paired_wrongly_are_caught_by_the_golden(
    graphs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crossed = [
        argument.replace("low=a:b", "low=a:a").replace("high=b:a", "high=b:b")
        for argument in arguments(graphs, "any", tmp_path / "bundle")
    ]

    status = command_line.main([*crossed, f"--golden={graphs / 'golden.npz'}"])

    assert status == 1
    assert "check the pairing of its states" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_without_a_reference_the_card_says_so(
    graphs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = f"--golden={graphs / 'frames.npz'}"

    assert command_line.main(arguments(graphs, "any", tmp_path / "bundle", golden)) == 0

    assert Bundle.load(tmp_path / "bundle").card.metrics["golden_outputs"] == "the graph's own"
    assert "so the graph was not compared with the model" in capsys.readouterr().out


def test_what_is_not_in_the_graph_or_left_over_is_named(graphs: pathlib.Path) -> None:
    content = (graphs / "any.tflite").read_bytes()

    with pytest.raises(CellError, match=r"inputs \['a', 'frame'\], expected each of .*'b': "):
        pack(content, Wiring("frame", {"low": ("a", "b")}, {"sum": "sum"}))
    with pytest.raises(CellError, match="is not a LiteRT"):
        pack(b"no graph", WIRING)
