"""LiteRT graphs, each allocated for one shape: of one step, and of several."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model import extras
from tickcell.model.interface import Interface

if TYPE_CHECKING:
    from numpy.typing import NDArray

# One padded call costs about as much as it has rows, and a call of its own about
# as much as 20 rows, so powers of two lose little and few shapes must be proven.
BATCH_SHAPES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# A signature of one step: of any batch or of one, or of B series by its name; and what
# it takes and gives.
_STEP = re.compile(r"step(_[1-9][0-9]*)?")
_FRAME_AND_STATE, _OUTPUT_AND_STATE = "frame_and_state", "output_and_state"

# The signature of several steps of one series, and what it takes and gives.
STEPS = "steps"
FRAMES_AND_STATE, ROWS = "frames_and_state", "rows"


class CellError(ValueError):
    """A graph is not a step of the interface it comes with."""


class _Allocated:
    """One signature of a graph, allocated for one shape, and what it is given.

    Attributes:
      rows: its input.
      given: the same, as bytes.
      running: held by whoever fills the input and runs it. The graph runs without
        Python's lock, and its tensors and the input are the same for every caller.
    """

    def __init__(
        self, graph: bytes, key: str, given: tuple[int, int], expected: tuple[int, int, int]
    ) -> None:
        # Filled anew at each step; what is left there of other rows is computed in vain,
        # and changes no bit of these.
        self.rows = np.zeros(given, np.float32)
        self.given = self.rows.data.cast("B")
        interpreter = _interpreter(graph)
        try:
            self._run = _runner(interpreter, key, given)
            # An output whose size is only known once it is computed has it then; of whatever
            # lies in the memory, a graph may not be able to compute one.
            got = self._run(self.rows).shape
        except (RuntimeError, ValueError) as error:
            raise CellError(f"the graph does not take the interface's shapes: {error}") from error
        rows, outputs, states = expected
        if got != (rows, outputs + states):
            raise CellError(
                f"graph output: got shape {list(got)}, expected [{rows}, {outputs} + {states}]."
            )
        self.running = threading.Lock()

    def run(self) -> NDArray[np.float32]:
        """Runs the graph on what it is given.

        A graph may move its tensors when it runs, and only the interpreter knows where they
        are: what is returned holds until whoever is `running` lets go.
        """
        made: NDArray[np.float32] = self._run(self.rows)
        return made


class Kernel:
    """A step, allocated for one batch shape."""

    def __init__(self, graph: bytes, interface: Interface, key: str, size: int) -> None:
        self.size = size
        self._sensor_count = interface.sensor_count
        self._output_count = interface.output_count
        state_size = interface.state_size
        self._allocated = _Allocated(
            graph,
            key,
            (size, interface.sensor_count + state_size),
            (size, interface.output_count, state_size),
        )

    def step(self, rows: bytes | memoryview) -> bytes:
        """Steps up to `size` rows; the rest of the batch is padding."""
        allocated, size = self._allocated, len(rows)
        with allocated.running:
            allocated.given[:size] = rows
            stepped = allocated.run().tobytes()
        if size == len(allocated.given):
            return stepped
        return stepped[: size * len(stepped) // len(allocated.given)]

    def lockstep(
        self,
        frames: NDArray[np.float32],
        state: NDArray[np.float32],
        outputs: NDArray[np.float32],
    ) -> bool:
        """Advances up to `size` series by some frames; as `Cell.lockstep`."""
        allocated, count = self._allocated, len(state)
        with allocated.running:
            rows = allocated.rows[:count]
            given_frame, given_state = np.split(rows, [self._sensor_count], axis=1)
            given_state[:] = state
            for frame, output in zip(frames, outputs, strict=True):
                given_frame[:] = frame
                made = allocated.run()[:count]
                if not np.isfinite(made).all():
                    return False
                output[:] = made[:, : self._output_count]
                # The graph is never run while there is a view of its tensors.
                given_state[:] = made[:, self._output_count :]
                del made
            state[:] = given_state
        return True


class StepsKernel:
    """Several steps of one series, of a graph as `unrolling` makes it.

    Attributes:
      step_count: how many.
    """

    def __init__(self, graph: bytes, interface: Interface) -> None:
        """Allocates it.

        Raises:
          CellError: it is not a graph of several steps of the interface.
        """
        frame_and_state = _width(graph)
        self._frame_size = 4 * interface.sensor_count
        self.step_count, rest = divmod(
            frame_and_state - interface.state_size, interface.sensor_count
        )
        if rest or self.step_count < 2:
            raise CellError(
                f"graph of several steps: takes {frame_and_state} numbers, expected "
                f"T x {interface.sensor_count} + {interface.state_size}."
            )
        output_count, state_size = interface.output_count, interface.state_size
        self._row_size = 4 * (output_count + state_size)
        self._state_start = self.step_count * self._frame_size
        made = (1, self.step_count * output_count, self.step_count * state_size)
        self._allocated = _Allocated(graph, STEPS, (1, frame_and_state), made)

    def run(self, frames: bytes, state: bytes) -> bytes:
        """Advances a series by up to `step_count` frames, `[T, F]`; returns `[T, O + S]`.

        Frames that are missing at the end are computed in vain.
        """
        allocated, size = self._allocated, len(frames)
        with allocated.running:
            allocated.given[:size] = frames
            allocated.given[self._state_start :] = state
            rows = allocated.run().tobytes()
        if size == self._state_start:
            return rows
        return rows[: size // self._frame_size * self._row_size]


def batches(graph: bytes) -> dict[int, str]:
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
        return lambda rows: runner(frame_and_state=rows)[_OUTPUT_AND_STATE]
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


def _width(graph: bytes) -> int:
    """Returns how many numbers a graph of several steps takes."""
    details, _ = _details(_interpreter(graph), STEPS)
    return int(details["shape"][1])


def _details(interpreter: Any, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what the interpreter knows of a signature's input and output."""
    names = FRAMES_AND_STATE, ROWS
    if key != STEPS:
        if not _STEP.fullmatch(key):
            raise CellError(f"graph: got the signature {key!r}, expected 'step' or 'step_<B>'.")
        names = _FRAME_AND_STATE, _OUTPUT_AND_STATE
    try:
        runner = interpreter.get_signature_runner(key)
    except ValueError as error:
        raise CellError(f"graph: {error}") from error
    found = []
    for kind, details, name in (
        ("input", runner.get_input_details(), names[0]),
        ("output", runner.get_output_details(), names[1]),
    ):
        if list(details) != [name]:
            raise CellError(f"graph {kind}: got {sorted(details)}, expected {name!r} alone.")
        found.append(details[name])
    # The interpreter refuses to allocate for other shapes while a runner lives.
    del runner
    return found[0], found[1]


def _interpreter(graph: bytes) -> Any:
    litert = extras.load("ai_edge_litert.interpreter", extra="server")
    try:
        # One thread: a second is slower up to 256 rows, and may round otherwise.
        return litert.Interpreter(model_content=graph, num_threads=1)
    except (RuntimeError, ValueError) as error:
        raise CellError(f"the graph is not a LiteRT model: {error}") from error
