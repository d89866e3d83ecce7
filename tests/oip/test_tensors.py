"""Shapes, datatypes and contents of what is sent, and of what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from tickcell.conformance.peer import Peer, PeerStream, Refused, request
from tickcell.model import Cell, Head, Interface, Sensor, TensorSpec

Path = Peer | PeerStream


@pytest.fixture
def started(path: Path) -> Path:
    """A path on which sequence 7 has one step."""
    path.infer(7, start=True)
    return path


def with_input(**tensor: Any) -> Any:
    """Returns a request with this input, and raw contents if there are any."""
    raw = tensor.pop("raw", None)
    message = request(7, inputs=[pb.ModelInferRequest.InferInputTensor(**tensor)])
    if raw is not None:
        message.raw_input_contents.append(raw)
    return message


FRAME: dict[str, Any] = {"name": "frames", "datatype": "FP32", "shape": [1, 1]}
ONE = np.float32(1.0).tobytes()


@pytest.mark.parametrize("steps", [1, 2, 32])
def test_frames_along_an_axis_of_time_are_answered_along_one(peer: Peer, steps: int) -> None:
    readings = np.arange(steps, dtype=np.float32).reshape(1, steps, 1)
    response = peer.call("ModelInfer", request(7, readings, start=True))
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("output", "FP32", [1, steps, 1])
    numbers = np.frombuffer(response.raw_output_contents[0], "<f4")
    assert numbers.tolist() == [1001.0 * step for step in range(steps)]


def test_one_frame_is_answered_without_an_axis_of_time(peer: Peer) -> None:
    response = peer.call("ModelInfer", request(7, start=True, id="r"))
    assert response.id == "r"
    (output,) = response.outputs
    assert list(output.shape) == [1, 1]


def test_more_frames_than_the_window_are_refused(started: Path) -> None:
    with pytest.raises(Refused, match="got step_count 33, expected 1 to 32"):
        started.infer(7, np.zeros((1, 33, 1)))
    assert started.infer(7, [5.0]) == [1005.0]


@pytest.mark.parametrize("shape", [(2, 1), (3, 4, 1)])
def test_batch_above_one_is_refused_in_tritons_words(started: Path, shape: Any) -> None:
    sentence = "inference request to model 'counting' must specify batch-size 1 due to requirements"
    with pytest.raises(Refused, match=sentence):
        started.infer(7, np.zeros(shape))
    assert started.infer(7, [5.0]) == [1005.0]


@pytest.mark.parametrize(
    "shape", [[], [1], [1, 2], [1, 0, 1], [0, 1], [-1, 1], [1, 1, 1, 1], [1, -1, 1], [1, 2**62, 1]]
)
def test_other_shapes_are_refused(started: Path, shape: list[int]) -> None:
    with pytest.raises(Refused, match=r"frames: got"):
        started.send(with_input(**{**FRAME, "shape": shape}, raw=ONE))
    assert started.infer(7, [5.0]) == [1005.0]


NUMBERS = [
    ("FP32", "fp32_contents", "<f4", [1.5, -2.0]),
    ("FP64", "fp64_contents", "<f8", [1.5, -2.0]),
    ("INT32", "int_contents", "<i4", [3, -4]),
]


@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize(("datatype", "field", "dtype", "numbers"), NUMBERS)
def test_numbers_are_taken_in_each_form(
    started: Path, datatype: str, field: str, dtype: str, numbers: list[float], is_raw: bool
) -> None:
    tensor: dict[str, Any] = {"name": "frames", "datatype": datatype, "shape": [1, 2, 1]}
    if is_raw:
        tensor["raw"] = np.array(numbers, dtype).tobytes()
    else:
        tensor["contents"] = pb.InferTensorContents(**{field: numbers})
    got = started.send(with_input(**tensor))
    assert got == [1000 + numbers[0], 2000 + numbers[1]]


@pytest.mark.parametrize(
    ("datatype", "dtype", "number"),
    [("FP64", "<f8", 0.1), ("FP64", "<f8", 1e300), ("INT32", "<i4", 2**24 + 1)],
)
def test_number_that_float32_does_not_hold_is_refused(
    started: Path, datatype: str, dtype: str, number: float
) -> None:
    raw = np.array([1.0, number], dtype).tobytes()
    tensor = {"name": "frames", "datatype": datatype, "shape": [1, 2, 1], "raw": raw}
    with pytest.raises(Refused, match="at 1, expected a number that float32 holds"):
        started.send(with_input(**tensor))
    assert started.infer(7, [5.0]) == [1005.0]


def test_nan_of_a_wider_kind_is_refused_as_a_reading(started: Path) -> None:
    raw = np.array([np.nan], "<f8").tobytes()
    with pytest.raises(Refused, match=r"sensor_0: got nan, expected a finite number.*FRAME_NOT_F"):
        started.send(with_input(**{**FRAME, "datatype": "FP64"}, raw=raw))


TYPED = pb.InferTensorContents(fp32_contents=[1.0])


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (request(7, inputs=[]), "inputs: got 0 inputs, expected 1: frames"),
        (with_input(**{**FRAME, "name": "x"}, raw=ONE), "inputs: got 'x', expected 'frames'"),
        (with_input(**{**FRAME, "datatype": "FP16"}, raw=b"ab"), "got datatype 'FP16', expected"),
        (with_input(**FRAME, raw=b"abc"), "frames: got 3 bytes, expected 4: 1 of FP32"),
        (with_input(**FRAME), r"frames: got contents \[\], expected fp32_contents, or raw"),
        (with_input(**FRAME, contents=TYPED, raw=ONE), "beside raw ones, expected one of the two"),
        (
            with_input(**{**FRAME, "datatype": "INT32"}, contents=TYPED),
            r"got contents \['fp32_contents'\], expected int_contents",
        ),
        (
            with_input(**{**FRAME, "shape": [1, 2, 1]}, contents=TYPED),
            "frames: got 1 numbers, expected 2",
        ),
        (with_input(**{**FRAME, "datatype": "FP64"}, raw=b"abc"), "got 3 bytes, expected a whole"),
        (
            with_input(
                **FRAME,
                parameters={"shared_memory_region": pb.InferParameter(string_param="r")},
                raw=ONE,
            ),
            "input 'frames': got the parameter 'shared_memory_region', expected none",
        ),
        (
            with_input(
                **FRAME,
                parameters={"binary_data_size": pb.InferParameter(int64_param=8)},
                raw=ONE,
            ),
            "frames: got 4 raw bytes, expected 8, as its binary_data_size says",
        ),
        (
            request(7, raw_input_contents=[ONE, ONE], inputs=[FRAME]),
            "raw_input_contents: got 2 of them, expected 1 or none",
        ),
    ],
)
def test_input_that_does_not_fit_is_refused_and_changes_nothing(
    started: Path, message: Any, complaint: str
) -> None:
    with pytest.raises(Refused, match=complaint):
        started.send(message)
    assert started.infer(7, [5.0]) == [1005.0]


def test_size_that_kserves_client_says_of_its_bytes_is_taken(started: Path) -> None:
    size = {"binary_data_size": pb.InferParameter(int64_param=4)}
    assert started.send(with_input(**FRAME, parameters=size, raw=ONE)) == [1001.0]


def asking(*names: str, **parameters: Any) -> Any:
    """Returns a step of sequence 7 that asks for these outputs."""
    message = request(7, [5.0])
    for name in names:
        output = message.outputs.add(name=name)
        for key, value in parameters.items():
            output.parameters[key].int64_param = value
    return message


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (asking("nobody"), "outputs: got 'nobody', expected some of output"),
        (asking("output", "output"), r"outputs: got \['output', 'output'\], expected each"),
        (asking("output", classification=3), "output 'output': got the parameter 'classification'"),
    ],
)
def test_output_that_cannot_be_given_is_refused_and_changes_nothing(
    started: Path, message: Any, complaint: str
) -> None:
    with pytest.raises(Refused, match=complaint):
        started.send(message)
    assert started.send(asking("output")) == [1005.0]


def test_priority_and_timeout_are_taken_and_have_no_effect(started: Path) -> None:
    message = request(7, [5.0])
    message.parameters["priority"].uint64_param = 3
    message.parameters["timeout"].int64_param = 1
    assert started.send(message) == [1005.0]


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("binary_data", {"bool_param": True}, "parameters: got 'binary_data', expected none but"),
        ("sequence_start", {"int64_param": 1}, "sequence_start: got int64_param, expected bool_p"),
        ("sequence_id", {"double_param": 7.0}, "sequence_id: got double_param, expected int64_p"),
        ("sequence_step", {}, "sequence_step: got no value, expected int64_param or uint64_param"),
    ],
)
def test_parameter_that_is_unknown_or_of_another_kind_is_refused_by_name(
    started: Path, name: str, value: dict[str, Any], complaint: str
) -> None:
    message = request(7)
    message.parameters[name].CopyFrom(pb.InferParameter(**value))
    with pytest.raises(Refused, match=complaint):
        started.send(message)
    assert started.infer(7, [5.0]) == [1005.0]


class TwoHeadedCell(Cell):
    """Gives the sum of its three sensors, and each of them doubled; the state counts."""

    @property
    def interface(self) -> Interface:
        return Interface(
            sensors=tuple(Sensor(name, "1", -500.0, 500.0) for name in ("x", "y", "z")),
            state_tensors=(TensorSpec("step", (1,)),),
            heads=(Head("sum", 1), Head("doubled", 3)),
        )

    @property
    def numerics_digest(self) -> str:
        return "0000000000c0ffee"

    def initial_state(self, series_count: int = 1) -> np.ndarray:
        return np.zeros((series_count, 1), np.float32)

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        table = np.frombuffer(rows, "<f4").reshape(-1, 4)
        frames, steps = table[:, :3], table[:, 3:]
        summed = frames.sum(axis=1, keepdims=True)
        return np.concatenate((summed, 2 * frames, steps + 1), axis=1).tobytes()


class TestHeads:
    @pytest.fixture
    def two_headed(self) -> Iterator[Peer]:
        with (
            InProcessServer([served(TwoHeadedCell(), "heads")]) as server,
            Peer(server.address) as peer,
        ):
            yield peer

    def infer(self, peer: Peer, *names: str) -> dict[str, tuple[list[int], list[float]]]:
        message = request(7, np.array([[[1, 2, 3], [4, 5, 6]]]), model="heads", start=True)
        for name in names:
            message.outputs.add(name=name)
        response = peer.call("ModelInfer", message)
        return {
            output.name: (list(output.shape), np.frombuffer(raw, "<f4").tolist())
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
        }

    def test_each_head_is_an_output(self, two_headed: Peer) -> None:
        assert self.infer(two_headed) == {
            "sum": ([1, 2, 1], [6.0, 15.0]),
            "doubled": ([1, 2, 3], [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]),
        }

    def test_only_outputs_that_are_asked_for_are_given_in_that_order(
        self, two_headed: Peer
    ) -> None:
        assert list(self.infer(two_headed, "doubled", "sum")) == ["doubled", "sum"]
        assert list(self.infer(two_headed, "sum")) == ["sum"]
        assert self.infer(two_headed, "sum")["sum"] == ([1, 2, 1], [6.0, 15.0])


def test_counting_cells_of_several_sensors_take_their_frames_in_order() -> None:
    with (
        InProcessServer([served(CountingCell(3))]) as server,
        Peer(server.address) as peer,
    ):
        got = peer.infer(7, np.array([[1.0, 2.0, 3.0]]), start=True)
        assert got == [1.0, 2.0, 3.0]
