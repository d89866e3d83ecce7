"""A graph of one step with tensors of its own, as the graph of packed rows that a cell runs.

What other converters give has an input for the frame and one for each state, and an
output for each head and each next state. Which next state belongs to which state only
its owner knows. Once that is said, the columns of a row are split before the graph and
joined behind it, within the graph: while it serves, nothing is paired.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model import extras
from tickcell.model.cell import CellError
from tickcell.model.interface import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Wiring:
    """Which tensor of a graph is what, by the names of its signature.

    Attributes:
      frame: the input that takes the readings.
      states: by the name of each state, its input and its output.
      outputs: by the name of each head, its output.
    """

    frame: str
    states: Mapping[str, tuple[str, str]]
    outputs: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A graph of packed rows, and what it takes and gives.

    Attributes:
      graph: with the signature that a cell runs.
      sensor_count: F.
      state_tensors: in the order of their columns.
      head_sizes: by name, in the order of an output row.
    """

    graph: bytes
    sensor_count: int
    state_tensors: tuple[TensorSpec, ...]
    head_sizes: dict[str, int]


def pack(graph: bytes, wiring: Wiring) -> Packed:
    """Wires a graph for packed rows.

    Raises:
      CellError: it is no LiteRT graph, has no such tensors, leaves one over, or has one
        that is not float32; the message lists what there is.
      MissingExtraError: LiteRT is not installed.
    """
    schema = extras.load("ai_edge_litert.schema_py_generated", extra="server")
    if graph[4:8] != b"TFL3":
        raise CellError("graph: is not a LiteRT (.tflite) model.")
    model = schema.ModelT.InitFromPackedBuf(graph, 0)
    editor = _Editor(schema, model)
    editor.check(wiring)
    inputs = [wiring.frame, *(given for given, _ in wiring.states.values())]
    outputs = [*wiring.outputs.values(), *(made for _, made in wiring.states.values())]
    input_sizes, output_sizes = editor.input_sizes(inputs), editor.output_sizes(outputs)
    for name, size, next_size in zip(
        wiring.states, input_sizes[1:], output_sizes[len(wiring.outputs) :], strict=True
    ):
        if size != next_size:
            raise CellError(
                f"state {name!r}: its input has {size} elements and its output {next_size}; pair "
                "each state with the output that is its next value."
            )
    editor.split("frame_and_state", inputs, input_sizes)
    editor.join("output_and_state", outputs, output_sizes)
    return Packed(
        graph=editor.finish(),
        sensor_count=input_sizes[0],
        state_tensors=tuple(
            TensorSpec(name, (size,))
            for name, size in zip(wiring.states, input_sizes[1:], strict=True)
        ),
        head_sizes=dict(zip(wiring.outputs, output_sizes, strict=False)),
    )


class _Editor:
    """Puts operations before and behind those of a graph."""

    def __init__(self, schema: Any, model: Any) -> None:
        self._schema, self._model = schema, model
        signatures = model.signatureDefs or []
        if len(signatures) > 1:
            raise CellError(
                f"graph: got {len(signatures)} signatures, expected one; convert the step alone."
            )
        self._graph = model.subgraphs[signatures[0].subgraphIndex if signatures else 0]
        self._inputs = self._named(signatures and signatures[0].inputs, self._graph.inputs)
        self._outputs = self._named(signatures and signatures[0].outputs, self._graph.outputs)
        batches = {self._shape(index)[:1] for index in self._inputs.values()}
        # Graphs whose states have other axes before that of the batch are of a batch of one.
        self._is_dynamic = batches == {(-1,)}

    def check(self, wiring: Wiring) -> None:
        """Refuses a wiring that is not of this graph, whole."""
        for kind, there, named in (
            ("input", self._inputs, [wiring.frame, *(each for each, _ in wiring.states.values())]),
            (
                "output",
                self._outputs,
                [*wiring.outputs.values(), *(each for _, each in wiring.states.values())],
            ),
        ):
            if sorted(named) != sorted(there):
                sizes = {name: list(self._shape(index)) for name, index in there.items()}
                raise CellError(
                    f"graph: got the {kind}s {sorted(named)}, expected each of {sizes} once; name "
                    "them with --frame, --state NAME=INPUT:OUTPUT and --output NAME=OUTPUT."
                )
        for name, index in (*self._inputs.items(), *self._outputs.items()):
            if self._graph.tensors[index].type != self._schema.TensorType.FLOAT32:
                raise CellError(f"graph: {name!r} is not float32; convert the step in float32.")

    def input_sizes(self, names: Sequence[str]) -> list[int]:
        """Returns how many elements of one series each input has."""
        return self._sizes(self._inputs, names)

    def output_sizes(self, names: Sequence[str]) -> list[int]:
        """Returns how many elements of one series each output has."""
        return self._sizes(self._outputs, names)

    def _sizes(self, tensors: dict[str, int], names: Sequence[str]) -> list[int]:
        sizes = []
        for name in names:
            shape = self._shape(tensors[name])
            size = int(np.prod(shape[1:] if self._is_dynamic else shape))
            if size < 1 or (not self._is_dynamic and -1 in shape):
                raise CellError(
                    f"graph: {name!r} has the shape {list(shape)}, expected the sizes of a batch "
                    "of one, or of any batch (-1) in front of all tensors."
                )
            sizes.append(size)
        return sizes

    def split(self, name: str, parts: Sequence[str], sizes: Sequence[int]) -> None:
        """Makes one input of several."""
        columns = [
            self._row(f"{name}_{part}", size) for part, size in zip(parts, sizes, strict=True)
        ]
        row = self._row(name, sum(sizes))
        options = self._schema.SplitVOptionsT()
        options.numSplits = len(parts)
        split = self._operator(
            "SPLIT_V",
            [row, self._constant(f"{name}_sizes", sizes), self._constant(f"{name}_axis", 1)],
            columns,
            options,
        )
        reshapes = [
            self._reshape(column, self._inputs[part], self._shape(self._inputs[part]))
            for column, part in zip(columns, parts, strict=True)
        ]
        self._graph.operators = [split, *reshapes, *self._graph.operators]
        self._graph.inputs = np.array([row], np.int32)

    def join(self, name: str, parts: Sequence[str], sizes: Sequence[int]) -> None:
        """Makes one output of several."""
        columns = [
            self._row(f"{name}_{part}", size) for part, size in zip(parts, sizes, strict=True)
        ]
        row = self._row(name, sum(sizes))
        options = self._schema.ConcatenationOptionsT()
        options.axis = 1
        reshapes = [
            self._reshape(self._outputs[part], column, (-1, size))
            for column, part, size in zip(columns, parts, sizes, strict=True)
        ]
        join = self._operator("CONCATENATION", columns, [row], options)
        self._graph.operators = [*self._graph.operators, *reshapes, join]
        self._graph.outputs = np.array([row], np.int32)

    def finish(self) -> bytes:
        """Returns the graph with its one signature."""
        import flatbuffers

        signature = self._schema.SignatureDefT()
        signature.signatureKey = "step"
        signature.subgraphIndex = self._model.subgraphs.index(self._graph)
        signature.inputs = [self._map("frame_and_state", self._graph.inputs[0])]
        signature.outputs = [self._map("output_and_state", self._graph.outputs[0])]
        self._model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _named(self, maps: Any, indices: Any) -> dict[str, int]:
        if maps:
            return {each.name.decode(): int(each.tensorIndex) for each in maps}
        return {self._graph.tensors[index].name.decode(): int(index) for index in indices}

    def _shape(self, index: int) -> tuple[int, ...]:
        tensor = self._graph.tensors[index]
        given = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        return tuple(int(size) for size in given)

    def _map(self, name: str, index: int) -> Any:
        mapped = self._schema.TensorMapT()
        mapped.name, mapped.tensorIndex = name, int(index)
        return mapped

    def _row(self, name: str, size: int) -> int:
        tensor = self._schema.TensorT()
        tensor.name, tensor.type = name, self._schema.TensorType.FLOAT32
        tensor.shape = np.array([1, size], np.int32)
        tensor.shapeSignature = np.array([-1, size], np.int32)
        return self._add(tensor)

    def _constant(self, name: str, values: Any) -> int:
        array = np.asarray(values, np.int32)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        tensor = self._schema.TensorT()
        tensor.name, tensor.type = name, self._schema.TensorType.INT32
        tensor.shape, tensor.buffer = np.array(array.shape, np.int32), len(self._model.buffers) - 1
        return self._add(tensor)

    def _add(self, tensor: Any) -> int:
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _reshape(self, given: int, made: int, shape: Sequence[int]) -> Any:
        sizes = [-1, *shape[1:]] if self._is_dynamic else list(shape)
        return self._operator(
            "RESHAPE",
            [given, self._constant(f"shape_of_{made}_by_{given}", sizes)],
            [made],
            self._schema.ReshapeOptionsT(),
        )

    def _operator(self, kind: str, inputs: list[int], outputs: list[int], options: Any) -> Any:
        code = getattr(self._schema.BuiltinOperator, kind)
        codes = self._model.operatorCodes
        found = [index for index, each in enumerate(codes) if each.builtinCode == code]
        if not found:
            new = self._schema.OperatorCodeT()
            new.builtinCode, new.deprecatedBuiltinCode, new.version = code, min(code, 127), 1
            codes.append(new)
        operator = self._schema.OperatorT()
        operator.opcodeIndex = found[0] if found else len(codes) - 1
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(
            self._schema.BuiltinOptions, type(options).__name__.removesuffix("T")
        )
        return operator
