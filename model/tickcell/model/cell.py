"""A recurrent cell, run in process: frames and a state in, outputs and a state out.

A state is one packed array, `[B, S]` float32: a row per series, in which the
interface's state tensors lie one after another. That is how a session's record
keeps it, how rows of many sessions are stacked, and what makes a state a plain
value: a cell never changes one, it returns the next.
"""

from __future__ import annotations

import abc
import hashlib
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model.interface import Interface
from tickcell.model.ranges import Ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.float32]
    State = NDArray[np.float32]
    Outputs = NDArray[np.float32]

_F4 = np.dtype("<f4")

# One padded call costs about as much as it has rows, and a call of its own about
# as much as 20 rows, so powers of two lose little and few shapes must be proven.
BATCH_SHAPES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# A signature of one step: of any batch or of one, or of B series by its name.
_STEP = re.compile(r"step(_[1-9][0-9]*)?")


class FrameShapeError(ValueError):
    """A frame or state has the wrong shape or type."""


class CellError(ValueError):
    """A graph is not a step of the interface it comes with."""


class Cell(abc.ABC):
    """One recurrent cell. Pure: a step depends on its arguments alone.

    Threads may share one.
    """

    @property
    @abc.abstractmethod
    def interface(self) -> Interface:
        """The sensors, state tensors and outputs."""

    @property
    @abc.abstractmethod
    def numerics_digest(self) -> str:
        """Identifies the bits that this cell computes on this machine, in hexadecimal."""

    @abc.abstractmethod
    def initial_state(self, series_count: int = 1) -> State:
        """Returns the state before the first frame, `[B, S]`."""

    @abc.abstractmethod
    def step_rows(self, rows: bytes) -> bytes:
        """Advances any number of series, each by one frame.

        Bytes on both sides, since that is how rows arrive and how they are kept.
        Each row's result is the same to the bit whatever the other rows are.

        Args:
          rows: `[R, F + S]` little-endian float32: frame and state of a series in each.

        Returns:
          `[R, O + S]` little-endian float32: output and next state of a series in each.

        Raises:
          FrameShapeError: the bytes are no whole number of rows, or none.
        """

    def step(self, frame: Frames, state: State) -> tuple[Outputs, State]:
        """Advances by one frame.

        Args:
          frame: `[B, F]`, or `[F]` where B = 1; float32, in the sensors' own units.
          state: `[B, S]`, as returned by `initial_state` or the previous `step`;
            it is not modified.

        Returns:
          `(output, next_state)`: `[B, O]`, or `[O]` where the frame was `[F]`, and `[B, S]`.

        Raises:
          FrameShapeError: the shapes do not fit.
        """
        interface = self.interface
        frames = frame[np.newaxis] if frame.ndim == 1 else frame
        for name, got, width in (
            ("frame", frames, interface.sensor_count),
            ("state", state, interface.state_size),
        ):
            if got.shape != (len(frames), width) or got.dtype != np.float32:
                raise FrameShapeError(
                    f"{name}: got {got.dtype} {list(got.shape)}, expected float32 "
                    f"[{len(frames)}, {width}]."
                )
        encoded = self.step_rows(np.concatenate((frames, state), axis=1).tobytes())
        rows = np.frombuffer(encoded, _F4).reshape(len(frames), -1)
        output_count = interface.output_count
        outputs = rows[0, :output_count] if frame.ndim == 1 else rows[:, :output_count]
        return outputs, rows[:, output_count:]


class LiteRTCell(Cell):
    """A cell whose step is a LiteRT (TensorFlow Lite) graph.

    The graph has a signature "step" with the input "frame_and_state" `[B, F + S]` and
    the output "output_and_state" `[B, O + S]`. A state tensor has the same columns of
    S in both, those that the interface's order gives it: no pairing that could go
    wrong, and one array each way, which is what a call costs most.

    The graph runs in a few fixed batch shapes, padded: those of `BATCH_SHAPES` where B is
    open, else the one that it was made for; and those B for which it has a signature
    "step_<B>" of its own. Kernels differ by shape, and so may their last bits: each shape
    is probed against the smallest, and dropped if any row at any position differs.
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
        self._ranges = Ranges(interface.sensors, interface.mask_value)
        self._row_size = 4 * (interface.sensor_count + interface.state_size)
        sizes = _batches(graph)
        self._kernels: list[_Kernel] = []
        for size in sorted(sizes):
            try:
                self._kernels.append(_Kernel(graph, interface, sizes[size], size))
            except CellError:
                # A graph may say that it takes any batch, and not be able to.
                if not self._kernels or sizes[size] != "step":
                    raise
        self._smallest = self._kernels[0]
        rows, next_rows = self._trace(probe)
        self._numerics_digest = hashlib.sha256(next_rows.tobytes()).hexdigest()[:16]
        self._kernels = [kernel for kernel in self._kernels if _agrees(kernel, rows, next_rows)]
        if self._smallest not in self._kernels:
            raise CellError(
                f"graph: a row of its batch of {self._smallest.size} depends on the others, or on "
                "its place among them."
            )

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
        return np.tile(self._interface.initial_state, (series_count, 1))

    def step(self, frame: Frames, state: State) -> tuple[Outputs, State]:
        """Advances by one frame; see `Cell.step`.

        Raises:
          FrameShapeError: the shapes do not fit.
          ReadingError: the graph would cut a reading to a whole number, or look up one that
            it does not know.
        """
        if self._ranges.has_whole:
            self._ranges.check_whole(frame)
        return super().step(frame, state)

    def step_rows(self, rows: bytes) -> bytes:
        size = self._row_size
        if len(rows) == size:
            return self._smallest.step(rows)
        count, rest = divmod(len(rows), size)
        if rest or not count:
            raise FrameShapeError(f"rows: got {len(rows)} bytes, expected rows of {size}.")
        parts = []
        start = 0
        while start < count:
            kernel = self._kernel_for(count - start)
            parts.append(kernel.step(rows[start * size : (start + kernel.size) * size]))
            start += kernel.size
        return b"".join(parts)

    def _kernel_for(self, rows: int) -> _Kernel:
        """Returns the smallest kernel that takes all rows, or else the largest."""
        for kernel in self._kernels:
            if kernel.size >= rows:
                return kernel
        return self._kernels[-1]

    def _trace(self, probe: Frames) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Runs the probe through the smallest batch; returns each step's row in and row out."""
        sensor_count, output_count = self._interface.sensor_count, self._interface.output_count
        rows = np.empty((BATCH_SHAPES[-1], sensor_count + self._interface.state_size), np.float32)
        rows[:, :sensor_count] = np.resize(probe, (len(rows), sensor_count))
        next_rows = np.empty((len(rows), output_count + self._interface.state_size), np.float32)
        state = self.initial_state()[0]
        for row, next_row in zip(rows, next_rows, strict=True):
            row[sensor_count:] = state
            next_row[:] = np.frombuffer(self._smallest.step(row.tobytes()), _F4)
            state = next_row[output_count:]
        return rows, next_rows


def _agrees(kernel: _Kernel, rows: NDArray[np.float32], next_rows: NDArray[np.float32]) -> bool:
    """Says whether the kernel gives, at each of its rows, the bits of a row that is alone."""
    if kernel.size == 1:
        return True
    # An odd stride puts different rows next to each other, and each position to
    # several of them.
    stride = max(1, kernel.size // 2 - 1)
    for start in range(0, len(rows), stride):
        chosen = np.arange(start, start + kernel.size) % len(rows)
        if kernel.step(rows[chosen].tobytes()) != next_rows[chosen].tobytes():
            return False
    return True


class _Kernel:
    """One signature of the graph, allocated for one batch shape."""

    def __init__(self, graph: bytes, interface: Interface, key: str, size: int) -> None:
        self.size = size
        shape = (size, interface.sensor_count + interface.state_size)
        # Filled anew at each step; what is left there of other rows is computed in vain,
        # and changes no bit of these.
        self._rows = np.zeros(shape, np.float32)
        self._bytes = self._rows.data.cast("B")
        interpreter = _interpreter(graph)
        try:
            self._run = _runner(interpreter, key, shape)
            # An output whose size is only known once it is computed has it then; of whatever
            # lies in the memory, a graph may not be able to compute one.
            got = self._run(self._rows).shape
        except (RuntimeError, ValueError) as error:
            raise CellError(f"the graph does not take the interface's shapes: {error}") from error
        if got != (size, interface.output_count + interface.state_size):
            raise CellError(
                f"graph output: got shape {list(got)}, expected "
                f"[{size}, {interface.output_count} + {interface.state_size}]."
            )
        # The graph runs without Python's lock, and its tensors and the rows above are the
        # same for every caller.
        self._running = threading.Lock()

    def step(self, rows: bytes) -> bytes:
        """Steps up to `size` rows; the rest of the batch is padding."""
        size = len(rows)
        with self._running:
            self._bytes[:size] = rows
            # A graph may move its tensors when it runs, and only the interpreter knows
            # where they are: no view of them outlives this block.
            stepped: bytes = self._run(self._rows).tobytes()
        if size == len(self._bytes):
            return stepped
        return stepped[: size * len(stepped) // len(self._bytes)]


def _batches(graph: bytes) -> dict[int, str]:
    """Returns the batch shapes to try, each with the signature that is for it."""
    interpreter = _interpreter(graph)
    sizes: dict[int, str] = {}
    # Those of a batch by their name take the place of the one that is of any.
    for key in sorted(interpreter.get_signature_list(), key=len):
        details, _ = _details(interpreter, key)
        batch = int(details["shape_signature"][0])
        shapes = BATCH_SHAPES if batch == -1 else (batch,)
        sizes |= dict.fromkeys(shapes, key)
    if not sizes:
        raise CellError("graph: has no signature, expected 'step'.")
    return sizes


def _runner(
    interpreter: Any, key: str, shape: tuple[int, int]
) -> Callable[[NDArray[np.float32]], Any]:
    """Allocates a signature for rows of a shape; returns what runs it, and views its output."""
    details, made = _details(interpreter, key)
    if interpreter.get_input_details()[0]["name"] != details["name"]:
        # Only a signature's own runner reaches other subgraphs than the first.
        runner = interpreter.get_signature_runner(key)
        return lambda rows: runner(frame_and_state=rows)["output_and_state"]
    given, output = int(details["index"]), int(made["index"])
    interpreter.resize_tensor_input(given, shape)
    interpreter.allocate_tensors()
    # Each call makes a view of where the output is then.
    view = interpreter.tensor(output)

    def run(rows: NDArray[np.float32]) -> Any:
        interpreter.set_tensor(given, rows)
        interpreter.invoke()
        return view()

    return run


def _details(interpreter: Any, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what the interpreter knows of a signature's input and output."""
    if not _STEP.fullmatch(key):
        raise CellError(f"graph: got the signature {key!r}, expected 'step' or 'step_<B>'.")
    runner = interpreter.get_signature_runner(key)
    found = []
    for kind, details, name in (
        ("input", runner.get_input_details(), "frame_and_state"),
        ("output", runner.get_output_details(), "output_and_state"),
    ):
        if list(details) != [name]:
            raise CellError(f"graph {kind}: got {sorted(details)}, expected {name!r} alone.")
        found.append(details[name])
    # The interpreter refuses to allocate for other shapes while a runner lives.
    del runner
    return found[0], found[1]


def _interpreter(graph: bytes) -> Any:
    from tickcell.model import extras

    litert = extras.load("ai_edge_litert.interpreter", extra="server")
    try:
        # One thread: a second is slower up to 256 rows, and may round otherwise.
        return litert.Interpreter(model_content=graph, num_threads=1)
    except (RuntimeError, ValueError) as error:
        raise CellError(f"the graph is not a LiteRT model: {error}") from error
