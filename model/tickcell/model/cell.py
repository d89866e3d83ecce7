"""A recurrent cell, run in process: frames and a state in, outputs and a state out.

A state is one packed array, `[B, S]` float32: a row per series, in which the
interface's state tensors lie one after another. That is how a session's record
keeps it, how rows of many sessions are stacked, and what makes a state a plain
value: a cell never changes one, it returns the next.
"""

from __future__ import annotations

import abc
import hashlib
import threading
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model.interface import Interface
from tickcell.model.kernel import BATCH_SHAPES as BATCH_SHAPES
from tickcell.model.kernel import CellError as CellError
from tickcell.model.kernel import Kernel, batches
from tickcell.model.ranges import Ranges
from tickcell.model.stretches import Stretches, Trace

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
    def step_rows(self, rows: bytes | memoryview) -> bytes:
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

    def stretch_rows(self, frames: bytes, state: bytes) -> bytes:
        """Advances one series by some frames, to the bits of a `step_rows` for each.

        Args:
          frames: `[T, F]` little-endian float32.
          state: `[S]` little-endian float32, before them.

        Returns:
          `[T, O + S]` little-endian float32: output and next state of each step.

        Raises:
          FrameShapeError: the bytes are no whole number of frames, or none, or no state.
        """
        size = self._check_stretch(frames, state)
        state_size = len(state)
        rows = []
        for start in range(0, len(frames), size):
            rows.append(self.step_rows(frames[start : start + size] + state))
            state = rows[-1][-state_size:]
        return b"".join(rows)

    def lockstep(self, frames: Frames, state: State, outputs: Outputs) -> bool:
        """Advances some series by some frames, to the bits of a `step_rows` for each.

        Args:
          frames: `[T, R, F]`.
          state: `[R, S]` before them; it becomes the one after the last.
          outputs: `[T, R, O]`, which it fills.

        Returns:
          Whether all outputs are finite, and the states after all frames; if not, what `state`
          and `outputs` hold is of no use.
        """
        sensor_count, output_count = self.interface.sensor_count, self.interface.output_count
        rows = np.empty((len(state), sensor_count + state.shape[1]), _F4)
        rows[:, sensor_count:] = state
        for frame, output in zip(frames, outputs, strict=True):
            rows[:, :sensor_count] = frame
            stepped = np.frombuffer(self.step_rows(rows.data.cast("B")), _F4)
            if not np.isfinite(stepped).all():
                return False
            stepped = stepped.reshape(len(rows), -1)
            output[:] = stepped[:, :output_count]
            rows[:, sensor_count:] = stepped[:, output_count:]
        state[:] = rows[:, sensor_count:]
        return True

    @property
    def stretch_step_count(self) -> int:
        """The most steps by which one call advances a series, as far as is known now."""
        return 1

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has nothing more to do."""
        return True

    def prepare(self) -> None:  # noqa: B027 - most cells have nothing to ready.
        """Readies what makes stretches quick, which takes some milliseconds, once.

        Until then they are stepped one step at a time, to the same bits.
        """

    def steps(self, frames: Frames, state: State) -> tuple[Outputs, State]:
        """Advances by some frames, to the bits of a `step` for each.

        Args:
          frames: `[T, B, F]`, or `[T, F]` where B = 1; float32, T >= 1.
          state: `[B, S]`; it is not modified.

        Returns:
          `(outputs, next_state)`: `[T, B, O]`, or `[T, O]` where the frames were `[T, F]`,
          and `[B, S]`, after the last of them.

        Raises:
          FrameShapeError: the shapes do not fit.
        """
        series = frames[:, np.newaxis] if frames.ndim == 2 else frames
        if not len(series):
            raise FrameShapeError("frames: got no steps, expected at least one.")
        if series.shape[1:] != (1, self.interface.sensor_count):
            stepped = []
            for frame in series:
                output, state = self.step(frame, state)
                stepped.append(output)
            return np.stack(stepped), state
        self._check_shapes(series[0], state)
        if len(series) > 1 and not self.is_prepared:
            self.prepare()
        encoded = self.stretch_rows(series.tobytes(), state.tobytes())
        rows = np.frombuffer(encoded, _F4).reshape(len(series), 1, -1)
        outputs = rows[..., : self.interface.output_count]
        return (
            outputs[:, 0] if frames.ndim == 2 else outputs,
            rows[-1, :, self.interface.output_count :],
        )

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
        frames = frame[np.newaxis] if frame.ndim == 1 else frame
        self._check_shapes(frames, state)
        encoded = self.step_rows(np.concatenate((frames, state), axis=1).tobytes())
        rows = np.frombuffer(encoded, _F4).reshape(len(frames), -1)
        output_count = self.interface.output_count
        outputs = rows[0, :output_count] if frame.ndim == 1 else rows[:, :output_count]
        return outputs, rows[:, output_count:]

    def _check_shapes(self, frames: Frames, state: State) -> None:
        interface = self.interface
        for name, got, width in (
            ("frame", frames, interface.sensor_count),
            ("state", state, interface.state_size),
        ):
            if got.shape != (len(frames), width) or got.dtype != np.float32:
                raise FrameShapeError(
                    f"{name}: got {got.dtype} {list(got.shape)}, expected float32 "
                    f"[{len(frames)}, {width}]."
                )

    def _check_stretch(self, frames: bytes, state: bytes) -> int:
        """Returns the bytes of one frame."""
        interface = self.interface
        size = 4 * interface.sensor_count
        if not frames or len(frames) % size or len(state) != 4 * interface.state_size:
            raise FrameShapeError(
                f"stretch: got {len(frames)} bytes of frames and {len(state)} of state, expected "
                f"frames of {size} and a state of {4 * interface.state_size}."
            )
        return size


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

    A stretch of steps of one series goes through a graph of several steps, if there is one
    (see `unrolling`), as soon as that is prepared: probed likewise, and measured.
    """

    def __init__(
        self,
        graph: bytes,
        interface: Interface,
        probe: Frames,
        steps_graph: bytes | None = None,
    ) -> None:
        """Loads the graph and proves its shapes.

        Args:
          graph: the bytes of a `.tflite` file.
          interface: what the graph takes and gives.
          probe: `[N, F]` frames, N >= 1, on which the shapes are compared and the
            numerics digest is computed.
          steps_graph: the bytes of a graph of several steps; None for none.

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
        trace = Trace.of(self._smallest, interface, probe, BATCH_SHAPES[-1])
        self._numerics_digest = hashlib.sha256(trace.next_rows.tobytes()).hexdigest()[:16]
        self._kernels = [kernel for kernel in self._kernels if _agrees(kernel, trace)]
        if self._smallest not in self._kernels:
            raise CellError(
                f"graph: a row of its batch of {self._smallest.size} depends on the others, or on "
                "its place among them."
            )
        # Kept until the graph of several steps is compared on the probe, when it is first needed.
        self._steps_graph = steps_graph
        self._probe = None if steps_graph is None else probe
        self._stretches: Stretches | None = None
        self._preparing = threading.Lock()

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

    def steps(self, frames: Frames, state: State) -> tuple[Outputs, State]:
        """Advances by some frames; see `Cell.steps`.

        Raises:
          FrameShapeError: the shapes do not fit.
          ReadingError: as for `step`.
        """
        if self._ranges.has_whole:
            self._ranges.check_whole(frames)
        return super().steps(frames, state)

    @property
    def is_prepared(self) -> bool:
        return self._steps_graph is None

    @property
    def stretch_step_count(self) -> int:
        return 1 if self._stretches is None else self._stretches.kernel.step_count

    def prepare(self) -> None:
        with self._preparing:
            if self._steps_graph is None or self._probe is None:
                return
            one, interface = self._smallest, self._interface
            trace = Trace.of(one, interface, self._probe, BATCH_SHAPES[-1])
            self._stretches = Stretches.proven(self._steps_graph, interface, one, trace)
            self._steps_graph = self._probe = None

    def stretch_rows(self, frames: bytes, state: bytes) -> bytes:
        size = self._check_stretch(frames, state)
        stretches, state_size, end = self._stretches, len(state), len(frames)
        most = least = end + 1
        if stretches is not None:
            most, least = size * stretches.kernel.step_count, size * stretches.least
        parts = []
        start = 0
        while start < end:
            if stretches is not None and end - start >= least:
                parts.append(stretches.kernel.run(frames[start : start + most], state))
                start += most
            else:
                parts.append(self._smallest.step(frames[start : start + size] + state))
                start += size
            state = parts[-1][-state_size:]
        return b"".join(parts)

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        size = self._row_size
        if len(rows) == size:
            return self._smallest.step(rows)
        count, rest = divmod(len(rows), size)
        if rest or not count:
            raise FrameShapeError(f"rows: got {len(rows)} bytes, expected rows of {size}.")
        parts = []
        start = 0
        # Rows that are passed on without being copied.
        rows = memoryview(rows)
        while start < count:
            kernel = self._kernel_for(count - start)
            parts.append(kernel.step(rows[start * size : (start + kernel.size) * size]))
            start += kernel.size
        return b"".join(parts)

    def lockstep(self, frames: Frames, state: State, outputs: Outputs) -> bool:
        start = 0
        while start < len(state):
            kernel = self._kernel_for(len(state) - start)
            own = slice(start, start + kernel.size)
            # All steps of some series before those of the next: their states stay in the cache.
            if not kernel.lockstep(frames[:, own], state[own], outputs[:, own]):
                return False
            start += kernel.size
        return True

    def _kernel_for(self, rows: int) -> Kernel:
        """Returns the smallest kernel that takes all rows, or else the largest."""
        for kernel in self._kernels:
            if kernel.size >= rows:
                return kernel
        return self._kernels[-1]


def _agrees(kernel: Kernel, trace: Trace) -> bool:
    """Says whether the kernel gives, at each of its rows, the bits of a row that is alone."""
    if kernel.size == 1:
        return True
    # An odd stride puts different rows next to each other, and each position to
    # several of them.
    stride = max(1, kernel.size // 2 - 1)
    rows, next_rows = trace
    for start in range(0, len(rows), stride):
        chosen = np.arange(start, start + kernel.size) % len(rows)
        if kernel.step(rows[chosen].tobytes()) != next_rows[chosen].tobytes():
            return False
    return True
