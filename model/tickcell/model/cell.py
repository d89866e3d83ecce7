"""A recurrent cell, run in process: frames and a state in, outputs and a state out.

A state is one packed array, `[B, S]` float32: a row per series, in which the
interface's state tensors lie one after another. That is how a session's record
keeps it, how rows of many sessions are stacked, and what makes a state a plain
value: a cell never changes one, it returns the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tickcell.model.interface import Interface

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.float32]
    State = NDArray[np.float32]
    Outputs = NDArray[np.float32]

# One padded call costs about as much as it has rows, and a call of its own about
# as much as 20 rows, so powers of two lose little and few shapes must be proven.
BATCH_SHAPES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class FrameShapeError(ValueError):
    """A frame or state has the wrong shape or type."""


class CellError(ValueError):
    """A graph is not a step of the interface it comes with."""


class Cell(Protocol):
    """One recurrent cell. Pure: a step depends on its arguments alone."""

    @property
    def interface(self) -> Interface:
        """The sensors, state tensors and outputs."""

    @property
    def numerics_digest(self) -> str:
        """Identifies the bits that this cell computes on this machine, in hexadecimal."""

    def initial_state(self, series_count: int = 1) -> State:
        """Returns the state before the first frame, `[B, S]`."""

    def step(self, frame: Frames, state: State) -> tuple[Outputs, State]:
        """Advances by one frame.

        Each row's result is the same to the bit whatever the other rows are.

        Args:
          frame: `[B, F]`, or `[F]` where B = 1; float32, in the sensors' own units.
          state: `[B, S]`, as returned by `initial_state` or the previous `step`;
            it is not modified.

        Returns:
          `(output, next_state)`: `[B, O]`, or `[O]` where the frame was `[F]`, and `[B, S]`.

        Raises:
          FrameShapeError: the shapes do not fit.
        """


class LiteRTCell:
    """A cell whose step is a LiteRT (TensorFlow Lite) graph.

    The graph has a signature "step" with the inputs "frame" `[B, F]` and one per
    state tensor, and the outputs "output" `[B, O]` and "next_" + name per state
    tensor. It runs in a few fixed batch shapes, padded. Kernels differ by shape,
    and so may their last bits: each shape is probed against a batch of one, and
    dropped if any row at any position differs.
    """

    def __init__(self, graph: bytes, interface: Interface, probe: Frames) -> None:
        """Loads the graph and proves its shapes.

        Args:
          graph: the bytes of a `.tflite` file.
          interface: what the graph takes and gives.
          probe: `[N, F]` frames, N >= 1, on which the shapes are compared and the
            numerics digest is computed.

        Raises:
          CellError: the graph cannot be loaded, or does not fit the interface.
          MissingExtraError: LiteRT is not installed.
        """
        self._interface = interface
        self._single = _Kernel(graph, interface, 1)
        self._kernels = [self._single]
        frames, states, outputs, next_states = self._trace(probe)
        self._numerics_digest = hashlib.sha256(
            outputs.tobytes() + next_states.tobytes()
        ).hexdigest()[:16]
        for size in BATCH_SHAPES[1:]:
            kernel = _Kernel(graph, interface, size)
            if _agrees(kernel, frames, states, outputs, next_states):
                self._kernels.append(kernel)

    @property
    def interface(self) -> Interface:
        return self._interface

    @property
    def numerics_digest(self) -> str:
        return self._numerics_digest

    @property
    def batch_shapes(self) -> tuple[int, ...]:
        """The batch shapes in use, smallest first."""
        return tuple(kernel.size for kernel in self._kernels)

    def initial_state(self, series_count: int = 1) -> State:
        return np.zeros((series_count, self._interface.state_size), np.float32)

    def step(self, frame: Frames, state: State) -> tuple[Outputs, State]:
        if frame.ndim == 1:
            outputs, next_state = self.step(frame[np.newaxis], state)
            return outputs[0], next_state
        rows = len(frame)
        if frame.shape != (rows, self._interface.sensor_count) or frame.dtype != np.float32:
            raise FrameShapeError(
                f"frame: got {frame.dtype} {list(frame.shape)}, expected float32 "
                f"[B, {self._interface.sensor_count}]."
            )
        if state.shape != (rows, self._interface.state_size) or state.dtype != np.float32:
            raise FrameShapeError(
                f"state: got {state.dtype} {list(state.shape)}, expected float32 "
                f"[{rows}, {self._interface.state_size}]."
            )
        if rows == 1:
            return self._single.step(frame, state)
        return self._step_rows(frame, state, rows)

    def _step_rows(self, frames: Frames, state: State, rows: int) -> tuple[Outputs, State]:
        """Runs many rows in as few calls as the proven shapes allow."""
        outputs = np.empty((rows, self._interface.output_count), np.float32)
        next_state = np.empty_like(state)
        start = 0
        while start < rows:
            kernel = self._kernel_for(rows - start)
            end = min(rows, start + kernel.size)
            outputs[start:end], next_state[start:end] = kernel.step(
                frames[start:end], state[start:end]
            )
            start = end
        return outputs, next_state

    def _kernel_for(self, rows: int) -> _Kernel:
        """Returns the smallest kernel that takes all rows, or else the largest."""
        for kernel in self._kernels:
            if kernel.size >= rows:
                return kernel
        return self._kernels[-1]

    def _trace(self, probe: Frames) -> tuple[Frames, State, Outputs, State]:
        """Runs the probe through the batch of one, and keeps every step's four arrays."""
        frames = np.resize(probe, (BATCH_SHAPES[-1], self._interface.sensor_count))
        states = np.empty((len(frames), self._interface.state_size), np.float32)
        next_states = np.empty_like(states)
        outputs = np.empty((len(frames), self._interface.output_count), np.float32)
        state = self.initial_state()
        for index, frame in enumerate(frames):
            states[index] = state
            outputs[index], state = self._single.step(frame[np.newaxis], state)
            next_states[index] = state
        return frames, states, outputs, next_states


def _agrees(
    kernel: _Kernel, frames: Frames, states: State, outputs: Outputs, next_states: State
) -> bool:
    """Says whether the kernel gives, at each of its rows, the bits of the batch of one."""
    # An odd stride puts different frames next to each other and each row
    # position to several of them.
    stride = max(1, kernel.size // 2 - 1)
    for start in range(0, len(frames), stride):
        rows = np.arange(start, start + kernel.size) % len(frames)
        got_outputs, got_states = kernel.step(frames[rows], states[rows])
        if got_outputs.tobytes() != outputs[rows].tobytes():
            return False
        if got_states.tobytes() != next_states[rows].tobytes():
            return False
    return True


class _Kernel:
    """The graph, allocated for one batch shape."""

    def __init__(self, graph: bytes, interface: Interface, size: int) -> None:
        self.size = size
        self._interpreter = _interpreter(graph)
        inputs, outputs = _signature(self._interpreter)
        names = [tensor.name for tensor in interface.state_tensors]
        _check_names("inputs", inputs, ["frame", *names])
        _check_names("outputs", outputs, ["output", *(f"next_{name}" for name in names)])
        shapes: dict[str, tuple[int, ...]] = {"frame": (interface.sensor_count,)}
        shapes |= {tensor.name: tensor.shape for tensor in interface.state_tensors}
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(inputs[name], (size, *shape))
        try:
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise CellError(f"the graph does not take the interface's shapes: {error}") from error
        self._frame = inputs["frame"]
        self._output = outputs["output"]
        got = self._interpreter.get_tensor(self._output).shape
        if got != (size, interface.output_count):
            raise CellError(
                f"graph output: got shape {list(got)}, expected [{size}, {interface.output_count}]."
            )
        # (input, output, first column, last column + 1, shape) of each state tensor.
        self._states: list[tuple[int, int, int, int, tuple[int, ...]]] = []
        start = 0
        for tensor in interface.state_tensors:
            end = start + tensor.size
            self._states.append(
                (
                    inputs[tensor.name],
                    outputs[f"next_{tensor.name}"],
                    start,
                    end,
                    (size, *tensor.shape),
                )
            )
            start = end

    def step(self, frames: Frames, state: State) -> tuple[Outputs, State]:
        """Steps up to `size` rows; the rest of the batch is padding."""
        rows = len(frames)
        if rows < self.size:
            frames = _padded(frames, self.size)
            state = _padded(state, self.size)
        interpreter = self._interpreter
        interpreter.set_tensor(self._frame, frames)
        for index, _, start, end, shape in self._states:
            interpreter.set_tensor(index, state[:, start:end].reshape(shape))
        interpreter.invoke()
        next_state = np.empty_like(state)
        for _, index, start, end, _ in self._states:
            next_state[:, start:end] = interpreter.get_tensor(index).reshape(self.size, -1)
        return interpreter.get_tensor(self._output)[:rows], next_state[:rows]


def _padded(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    padded = np.zeros((size, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    return padded


def _interpreter(graph: bytes) -> Any:
    from tickcell.model import extras

    litert = extras.load("ai_edge_litert.interpreter", extra="server")
    try:
        # One thread: a second is slower up to 256 rows, and may round otherwise.
        return litert.Interpreter(model_content=graph, num_threads=1)
    except (RuntimeError, ValueError) as error:
        raise CellError(f"the graph is not a LiteRT model: {error}") from error


def _signature(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the tensor index of each input and output of the signature "step"."""
    signatures = interpreter.get_signature_list()
    if "step" not in signatures:
        raise CellError(f"graph: got the signatures {sorted(signatures)}, expected 'step'.")
    runner = interpreter.get_signature_runner("step")
    inputs = {name: int(spec["index"]) for name, spec in runner.get_input_details().items()}
    outputs = {name: int(spec["index"]) for name, spec in runner.get_output_details().items()}
    # The interpreter refuses to allocate for other shapes while a runner lives.
    del runner
    return inputs, outputs


def _check_names(kind: str, got: dict[str, int], expected: Sequence[str]) -> None:
    if sorted(got) != sorted(expected):
        raise CellError(f"graph {kind}: got {sorted(got)}, expected {sorted(expected)}.")
