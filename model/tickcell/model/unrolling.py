"""The graph of one step as a graph of several: of one series, for its chunks.

A call costs about as much as a small cell does in it. So the operators of the step
follow each other as often as there are steps, in one graph, and the weights are there
once. Each step has the operators of the one-step graph in their order, so it has its bits
where the kernels are the same; a cell proves that before it uses the graph.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.model import extras
from tickcell.model.kernel import FRAMES_AND_STATE, ROWS, STEPS, batches
from tickcell.model.subgraph import Subgraph, encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.model.interface import Interface


class UnrollingError(ValueError):
    """A graph cannot be unrolled; the message says why, in half a sentence."""


class Unrolling:
    """A one-step graph, and what is needed to unroll it.

    Attributes:
      key: the signature of the step of one series.
      operator_count: of a step.
      weights_size: the bytes of all that is constant in a step.
    """

    def __init__(self, graph: bytes, interface: Interface) -> None:
        """Looks into a graph.

        Args:
          graph: of the rows that `LiteRTCell` runs, as `packing` and the export make it.
          interface: what it takes and gives.

        Raises:
          UnrollingError: it has no step of one series, or one that is not split and joined
            as it is made here.
          MissingExtraError: LiteRT is not installed.
        """
        key = batches(graph).get(1)
        if key is None:
            raise UnrollingError("the graph has no step of one series")
        self._schema = extras.load("ai_edge_litert.schema_py_generated", extra="server")
        self._encoded, self.key, self._interface = graph, key, interface
        self._load()
        self.operator_count = len(self._graph.operators)
        self.weights_size = sum(
            len(self._model.buffers[buffer].data)
            for buffer in {self._graph.tensors[each].buffer for each in self._constants()}
        )

    def unrolled(self, step_count: int) -> bytes:
        """Returns a graph of so many steps.

        It has the signature `steps`, which takes the frames of all steps and the state
        before them, `[1, T * F + S]`, and gives the row of each step, `[1, T * (O + S)]`.
        """
        self._load()
        graph, interface = self._graph, self._interface
        sizes = [tensor.size for tensor in interface.state_tensors]
        columns = [interface.sensor_count] * step_count + sizes
        given = self._subgraph.tensor(FRAMES_AND_STATE, (1, sum(columns)))
        parts = [self._subgraph.tensor("part", (1, size)) for size in columns]
        frames, states = parts[:step_count], parts[step_count:]
        options = self._schema.SplitVOptionsT()
        options.numSplits = len(parts)
        split = [given, self._subgraph.constant(columns), self._subgraph.constant(1)]
        operators = [self._subgraph.operator("SPLIT_V", split, parts, options)]
        rows = []
        for frame in frames:
            states, row, stepped = self._step([frame, *states])
            operators += stepped
            rows.append(row)
        made = self._subgraph.tensor(ROWS, (1, step_count * self._row_size))
        options = self._schema.ConcatenationOptionsT()
        options.axis = 1
        operators.append(self._subgraph.operator("CONCATENATION", rows, [made], options))
        graph.operators = operators
        graph.inputs, graph.outputs = np.array([given], np.int32), np.array([made], np.int32)
        self._sign(given, made)
        return encoded(self._model)

    @property
    def _row_size(self) -> int:
        return self._interface.output_count + self._interface.state_size

    def _load(self) -> None:
        """Unpacks the graph, which unrolling changes."""
        model = self._schema.ModelT.InitFromPackedBuf(self._encoded, 0)
        (self._signature,) = [
            each for each in model.signatureDefs if each.signatureKey.decode() == self.key
        ]
        index = self._signature.subgraphIndex
        self._model, self._graph = model, model.subgraphs[index]
        self._subgraph = Subgraph(self._schema, model, index)
        self._check()
        # A step of any number of series is one of one series here.
        for tensor in self._graph.tensors:
            tensor.shapeSignature = None
        self._split, *self._body, self._joined = self._graph.operators
        self._states = self._next_states()

    def _check(self) -> None:
        graph = self._graph
        for operator in graph.operators:
            if any("subgraph" in name.lower() for name in vars(operator.builtinOptions or object)):
                raise UnrollingError("the graph has loops or branches of its own")
        if any(tensor.isVariable for tensor in graph.tensors):
            raise UnrollingError("the graph keeps a state of its own")
        first, last = graph.operators[0], graph.operators[-1]
        readers = [each for each in graph.operators if graph.inputs[0] in each.inputs]
        if (
            readers != [first]
            or self._kind(first) != "SPLIT_V"
            or first.inputs[0] != graph.inputs[0]
        ):
            raise UnrollingError("the graph does not begin with the split of its rows")
        if self._kind(last) != "CONCATENATION" or list(last.outputs) != list(graph.outputs):
            raise UnrollingError("the graph does not end with the joining of its rows")
        sizes = [self._subgraph.size(tensor, 0) for tensor in first.outputs]
        if sizes != [
            self._interface.sensor_count,
            *(tensor.size for tensor in self._interface.state_tensors),
        ]:
            raise UnrollingError("the graph splits its rows at other places than its states'")

    def _next_states(self) -> list[int]:
        """Returns the tensors of the next states: the last ones of those that are joined."""
        sizes = [tensor.size for tensor in self._interface.state_tensors]
        states = [int(tensor) for tensor in self._joined.inputs[-len(sizes) :]]
        if [self._subgraph.size(tensor, 0) for tensor in states] != sizes:
            raise UnrollingError("the graph joins its rows at other places than its states'")
        return states

    def _step(self, parts: Sequence[int]) -> tuple[list[int], int, list[Any]]:
        """Adds one more step.

        Args:
          parts: the tensors of its frame and of its states.

        Returns:
          The tensors of its next states and of its row, and its operators.
        """
        constants = self._constants()
        twins = dict(zip(map(int, self._split.outputs), parts, strict=True))

        def twin(tensor: int) -> int:
            # An input that an operator does without is -1.
            if tensor < 0 or tensor in constants:
                return tensor
            if tensor not in twins:
                self._graph.tensors.append(copy.copy(self._graph.tensors[tensor]))
                twins[tensor] = len(self._graph.tensors) - 1
            return twins[tensor]

        operators = []
        for operator in (*self._body, self._joined):
            other = copy.copy(operator)
            other.inputs = np.array([twin(int(each)) for each in operator.inputs], np.int32)
            other.outputs = np.array([twin(int(each)) for each in operator.outputs], np.int32)
            operators.append(other)
        return (
            [twin(state) for state in self._states],
            twin(int(self._joined.outputs[0])),
            operators,
        )

    def _constants(self) -> set[int]:
        """Returns the tensors that hold what is known, such as weights."""
        operators = self._graph.operators
        read = {int(each) for operator in operators for each in operator.inputs} - {-1}
        return {
            each
            for each in read
            if self._model.buffers[self._graph.tensors[each].buffer].data is not None
        }

    def _kind(self, operator: Any) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex].builtinCode
        names = vars(self._schema.BuiltinOperator).items()
        return next((str(name) for name, value in names if value == code), "")

    def _sign(self, given: int, made: int) -> None:
        signature = self._signature
        signature.signatureKey, signature.subgraphIndex = STEPS, 0
        for (mapped,), name, tensor in (
            (signature.inputs, FRAMES_AND_STATE, given),
            (signature.outputs, ROWS, made),
        ):
            mapped.name, mapped.tensorIndex = name, tensor
        self._model.signatureDefs, self._model.subgraphs = [signature], [self._graph]
