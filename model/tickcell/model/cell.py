"""A recurrent cell, run in process: frames and a state in, outputs and a state out.

A state is one packed array, `[B, S]` float32: a row per series, in which the
interface's state tensors lie one after another. That is how a session's record
keeps it, how rows of many sessions are stacked, and what makes a state a plain
value: a cell never changes one, it returns the next.
"""

from __future__ import annotations

import abc
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.interface import Interface
from tickcell.model.kernel import BATCH_SHAPES as BATCH_SHAPES
from tickcell.model.kernel import CellError as CellError
from tickcell.model.kernel import Kernel, batches
from tickcell.model.ranges import Ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.float32]
    State = NDArray[np.float32]
    Outputs = NDArray[np.float32]

_F4 = np.dtype("<f4")


class FrameShapeError(ValueError):
    """A frame or state has the wrong shape or type."""


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
        sizes = batches(graph)
        self._kernels: list[Kernel] = []
        for size in sorted(sizes):
            try:
                self._kernels.append(Kernel(graph, interface, sizes[size], size))
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

    def _kernel_for(self, rows: int) -> Kernel:
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


def _agrees(kernel: Kernel, rows: NDArray[np.float32], next_rows: NDArray[np.float32]) -> bool:
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
