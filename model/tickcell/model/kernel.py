"""A LiteRT graph, allocated for one batch shape."""

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

# A signature of one step: of any batch or of one, or of B series by its name.
_STEP = re.compile(r"step(_[1-9][0-9]*)?")


class CellError(ValueError):
    """A graph is not a step of the interface it comes with."""


class Kernel:
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
    litert = extras.load("ai_edge_litert.interpreter", extra="server")
    try:
        # One thread: a second is slower up to 256 rows, and may round otherwise.
        return litert.Interpreter(model_content=graph, num_threads=1)
    except (RuntimeError, ValueError) as error:
        raise CellError(f"the graph is not a LiteRT model: {error}") from error
