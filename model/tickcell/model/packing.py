"""A graph of one step with tensors of its own, as the graph of packed rows that a cell runs.

What other converters give has an input for the frame and one for each state, and an
output for each head and each next state. Which next state belongs to which state only
its owner knows. Once that is said, the columns of a row are split before the graph and
joined behind it, within the graph: while it serves, nothing is paired.

A graph is of any number of series, or of one number. A file may have it in several
signatures: one of a step, and others called `step_<B>` of B series each.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from tickcell.model import extras
from tickcell.model.cell import CellError
from tickcell.model.interface import TensorSpec
from tickcell.model.subgraph import Subgraph, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A signature that says of how many series it is.
_OF_BATCH = re.compile(r"step_([1-9][0-9]*)")


@dataclasses.dataclass(frozen=True, slots=True)
class Wiring:
    """Which tensor of a graph is what, by the names of its signature.

    Attributes:
      frame: the input that takes the readings.
      states: by the name of each state, its input and its output.
      outputs: by the name of each head, its output.
      batch: of how many series a graph of fixed sizes is, where that is not clear.
    """

    frame: str
    states: Mapping[str, tuple[str, str]]
    outputs: Mapping[str, str]
    batch: int | None = None

    @property
    def inputs(self) -> list[str]:
        """The graph's inputs, in the order of a row in."""
        return [self.frame, *(given for given, _ in self.states.values())]

    @property
    def results(self) -> list[str]:
        """The graph's outputs, in the order of a row out."""
        return [*self.outputs.values(), *(made for _, made in self.states.values())]


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A graph of packed rows, and what it takes and gives.

    Attributes:
      graph: with the signatures that a cell runs.
      sensor_count: F.
      state_tensors: in the order of their columns.
      head_sizes: by name, in the order of an output row.
      batches: those that signatures are for by their names.
    """

    graph: bytes
    sensor_count: int
    state_tensors: tuple[TensorSpec, ...]
    head_sizes: dict[str, int]
    batches: tuple[int, ...]


def pack(graph: bytes, wiring: Wiring) -> Packed:
    """Wires a graph for packed rows.

    Raises:
      CellError: it is no LiteRT graph, has no such tensors, leaves one over, has one that is
        not float32, or is of a batch that cannot be told; the message lists what there is.
      MissingExtraError: LiteRT is not installed.
    """
    schema = extras.load("ai_edge_litert.schema_py_generated", extra="server")
    if graph[4:8] != b"TFL3":
        raise CellError("graph: is not a LiteRT (.tflite) model.")
    model = schema.ModelT.InitFromPackedBuf(graph, 0)
    steps = [_Step(schema, model, each, wiring) for each in model.signatureDefs or [None]]
    keys = [step.key for step in steps]
    if len(set(keys)) < len(keys):
        raise CellError(
            f"graph: got {len(keys)} signatures, expected one of a step, and others called "
            "step_<B> of the same step for B series; convert the step alone."
        )
    for step in steps:
        step.find_series([other for other in steps if other is not step])
    input_sizes, output_sizes = _common_sizes(steps, wiring)
    model.signatureDefs = [step.packed() for step in steps]
    states = zip(wiring.states, input_sizes[1:], strict=True)
    return Packed(
        graph=encoded(model),
        sensor_count=input_sizes[0],
        state_tensors=tuple(TensorSpec(name, (size,)) for name, size in states),
        head_sizes=dict(zip(wiring.outputs, output_sizes, strict=False)),
        batches=tuple(step.batch for step in steps if step.key != "step" and step.batch),
    )


def _common_sizes(steps: Sequence[_Step], wiring: Wiring) -> tuple[list[int], list[int]]:
    """Returns how many elements of one series each input and each output has."""
    sizes = [step.sizes() for step in steps]
    if any(each != sizes[0] for each in sizes):
        listed = ", ".join(f"{step.key} {each}" for step, each in zip(steps, sizes, strict=True))
        raise CellError(
            f"graph: its signatures have series of different sizes ({listed}); convert the same "
            "step for each."
        )
    inputs, outputs = sizes[0]
    next_states = outputs[len(wiring.outputs) :]
    for name, size, next_size in zip(wiring.states, inputs[1:], next_states, strict=True):
        if size != next_size:
            raise CellError(
                f"state {name!r}: its input has {size} elements and its output {next_size}; pair "
                "each state with the output that is its next value."
            )
    return inputs, outputs


class _Step:
    """One signature of a graph, or a graph without any.

    Attributes:
      key: "step", or "step_<B>" where its name says of how many series it is.
      batch: of how many series it is; None for any number.
    """

    def __init__(self, schema: Any, model: Any, signature: Any, wiring: Wiring) -> None:
        self._schema, self._wiring = schema, wiring
        self._index = signature.subgraphIndex if signature else 0
        graph = model.subgraphs[self._index]
        self._inputs = _named(graph, signature and signature.inputs, graph.inputs)
        self._outputs = _named(graph, signature and signature.outputs, graph.outputs)
        self._subgraph = Subgraph(schema, model, self._index)
        self._check()
        name = _OF_BATCH.fullmatch(signature.signatureKey.decode() if signature else "")
        self.key = name[0] if name else "step"
        self.batch = int(name[1]) if name else self._series_count()
        self._axes: list[int | None] = []

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Those of the inputs and the outputs, in the order of rows."""
        return [self._subgraph.shape(tensor) for tensor in self._tensors()]

    def find_series(self, others: Sequence[_Step]) -> None:
        """Finds the axis of series of each tensor: where it differs from other batches."""
        if self.batch is None or self.batch == 1:
            # In front, or nowhere: a series is all that there is.
            self._axes = [0 if self.batch is None else None] * len(self._tensors())
            return
        names = [*self._wiring.inputs, *self._wiring.results]
        beside = [other.shapes for other in others]
        for number, (name, shape) in enumerate(zip(names, self.shapes, strict=True)):
            places = [axis for axis, size in enumerate(shape) if size == self.batch]
            for shapes in beside:
                places = [axis for axis in places if _is_alike(shape, shapes[number], axis)]
            if len(places) != 1:
                raise CellError(
                    f"graph: {self.key}: {name!r} has the shape {list(shape)}, in which the axis "
                    f"of {self.batch} series cannot be determined; convert the step for a batch "
                    "of one too, in the same file."
                )
            self._axes += places

    def sizes(self) -> tuple[list[int], list[int]]:
        """Returns how many elements of one series each input and each output has."""
        sizes = []
        for tensor, axis in zip(self._tensors(), self._axes, strict=True):
            size = self._subgraph.size(tensor, axis)
            if size < 1:
                raise CellError(
                    f"graph: {self.key}: a tensor has the shape "
                    f"{list(self._subgraph.shape(tensor))}, expected the sizes of one batch, or "
                    "of any batch (-1) in front of all tensors."
                )
            sizes.append(size)
        count = len(self._wiring.inputs)
        return sizes[:count], sizes[count:]

    def packed(self) -> Any:
        """Adds the rows, and returns their signature."""
        parts = [*zip(self._tensors(), self._axes, strict=True)]
        count = len(self._wiring.inputs)
        # The rows' names tell the signatures of one file apart.
        row = self._subgraph.split_input(f"{self.key}_in", self.batch, parts[:count])
        next_row = self._subgraph.join_output(f"{self.key}_out", self.batch, parts[count:])
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = self.key, self._index
        signature.inputs = [self._map("frame_and_state", row)]
        signature.outputs = [self._map("output_and_state", next_row)]
        return signature

    def _tensors(self) -> list[int]:
        return [
            *(self._inputs[name] for name in self._wiring.inputs),
            *(self._outputs[name] for name in self._wiring.results),
        ]

    def _check(self) -> None:
        """Refuses a wiring that is not of this graph, whole."""
        for kind, there, named in (
            ("input", self._inputs, self._wiring.inputs),
            ("output", self._outputs, self._wiring.results),
        ):
            if sorted(named) != sorted(there):
                shapes = {name: list(self._subgraph.shape(each)) for name, each in there.items()}
                raise CellError(
                    f"graph: got the {kind}s {sorted(named)}, expected each of {shapes} once; name "
                    "them with --frame, --state NAME=INPUT:OUTPUT and --output NAME=OUTPUT."
                )
        for name, tensor in (*self._inputs.items(), *self._outputs.items()):
            if not self._subgraph.is_float32(tensor):
                raise CellError(f"graph: {name!r} is not float32; convert the step in float32.")

    def _series_count(self) -> int | None:
        """Returns of how many series a graph is whose name does not say it; None for any."""
        shapes = [self._subgraph.shape(tensor) for tensor in self._inputs.values()]
        if {shape[:1] for shape in shapes} == {(-1,)}:
            return None
        if self._wiring.batch is not None:
            return self._wiring.batch
        fronts = {shape[0] for shape in self.shapes if len(shape) > 1}
        if len(fronts) == 1 and fronts != {1} and all(len(shape) > 1 for shape in self.shapes):
            front = fronts.pop()
            raise CellError(
                f"graph: all of its tensors begin with {front}; say with --batch {front} that it "
                f"takes {front} series at once, or with --batch 1 that it takes one."
            )
        return 1

    def _map(self, name: str, tensor: int) -> Any:
        mapped = self._schema.TensorMapT()
        mapped.name, mapped.tensorIndex = name, tensor
        return mapped


def _named(graph: Any, maps: Any, tensors: Any) -> dict[str, int]:
    """Returns tensors by the names of a signature, or by their own."""
    if maps:
        return {each.name.decode(): int(each.tensorIndex) for each in maps}
    return {graph.tensors[tensor].name.decode(): int(tensor) for tensor in tensors}


def _is_alike(shape: tuple[int, ...], other: tuple[int, ...], axis: int) -> bool:
    """Says whether two shapes may be those of two batches whose axis is this one."""
    if len(shape) != len(other):
        return axis == 0
    rest = [(size, also) for at, (size, also) in enumerate(zip(shape, other)) if at != axis]  # noqa: B905 - as long
    return all(size == also for size, also in rest)
