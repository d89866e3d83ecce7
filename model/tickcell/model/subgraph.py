"""A subgraph of a LiteRT model, to which operations are added in front and behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Subgraph:
    """Adds tensors and operations to a subgraph; those that it has stay as they are.

    A tensor has an axis of series, or none where all of it is one series.
    """

    def __init__(self, schema: Any, model: Any, index: int) -> None:
        """Opens a subgraph.

        Args:
          schema: of LiteRT models, as flatbuffers generates it.
          model: the model, unpacked.
          index: of the subgraph.
        """
        self._schema, self._model = schema, model
        self._graph = model.subgraphs[index]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Returns a tensor's shape, -1 where a size is open."""
        found = self._graph.tensors[tensor]
        given = found.shape if found.shapeSignature is None else found.shapeSignature
        return () if given is None else tuple(int(size) for size in given)

    def is_float32(self, tensor: int) -> bool:
        """Says whether a tensor is of float32."""
        return bool(self._graph.tensors[tensor].type == self._schema.TensorType.FLOAT32)

    def size(self, tensor: int, axis: int | None) -> int:
        """Returns how many elements a tensor has of one series; below 1 if that is open."""
        return int(np.prod(_without(self.shape(tensor), axis)))

    def split_input(
        self, name: str, batch: int | None, parts: Sequence[tuple[int, int | None]]
    ) -> int:
        """Makes one row the only input, of which several tensors are parts.

        Args:
          name: of the row.
          batch: how many rows there are; None for any number.
          parts: the tensors, each with its axis of series.

        Returns:
          The row's tensor, `[B, N]`.
        """
        sizes = [self.size(*part) for part in parts]
        row, columns = self._rows(name, batch, sizes)
        operators = []
        for column, (tensor, axis) in zip(columns, parts, strict=True):
            operators += self._from_columns(column, tensor, axis)
        options = self._schema.SplitVOptionsT()
        options.numSplits = len(parts)
        given = [row, self.constant(sizes), self.constant(1)]
        split = self.operator("SPLIT_V", given, columns, options)
        self._graph.operators = [split, *operators, *self._graph.operators]
        self._graph.inputs = np.array([row], np.int32)
        return row

    def join_output(
        self, name: str, batch: int | None, parts: Sequence[tuple[int, int | None]]
    ) -> int:
        """Makes one row of several tensors the only output; for the rest see `split_input`."""
        row, columns = self._rows(name, batch, [self.size(*part) for part in parts])
        operators = []
        for column, (tensor, axis) in zip(columns, parts, strict=True):
            operators += self._to_columns(tensor, axis, column)
        options = self._schema.ConcatenationOptionsT()
        options.axis = 1
        operators.append(self.operator("CONCATENATION", columns, [row], options))
        self._graph.operators = [*self._graph.operators, *operators]
        self._graph.outputs = np.array([row], np.int32)
        return row

    def _rows(self, name: str, batch: int | None, sizes: Sequence[int]) -> tuple[int, list[int]]:
        """Adds a row and its columns, each `[B, N]`."""
        front = -1 if batch is None else batch
        columns = [
            self.tensor(f"{name}_{number}", (front, size)) for number, size in enumerate(sizes)
        ]
        return self.tensor(name, (front, sum(sizes))), columns

    def _from_columns(self, column: int, tensor: int, axis: int | None) -> list[Any]:
        shape = self.shape(tensor)
        if not axis:
            return [self._reshape(column, tensor, shape)]
        front = self.tensor(f"series_of_{tensor}", (shape[axis], *_without(shape, axis)))
        order = [*range(1, axis + 1), 0, *range(axis + 1, len(shape))]
        turned = self._turned(front, tensor, order)
        return [self._reshape(column, front, self.shape(front)), turned]

    def _to_columns(self, tensor: int, axis: int | None, column: int) -> list[Any]:
        shape = self.shape(tensor)
        if not axis:
            return [self._reshape(tensor, column, self.shape(column))]
        front = self.tensor(f"series_of_{tensor}", (shape[axis], *_without(shape, axis)))
        order = [axis, *range(axis), *range(axis + 1, len(shape))]
        return [
            self._turned(tensor, front, order),
            self._reshape(front, column, self.shape(column)),
        ]

    def _reshape(self, given: int, made: int, shape: Sequence[int]) -> Any:
        options = self._schema.ReshapeOptionsT()
        return self.operator("RESHAPE", [given, self.constant(shape)], [made], options)

    def _turned(self, given: int, made: int, order: Sequence[int]) -> Any:
        options = self._schema.TransposeOptionsT()
        return self.operator("TRANSPOSE", [given, self.constant(order)], [made], options)

    def tensor(self, name: str, shape: Sequence[int]) -> int:
        """Adds a tensor of float32, whose sizes are open where they are -1."""
        tensor = self._schema.TensorT()
        tensor.name, tensor.type = name, self._schema.TensorType.FLOAT32
        tensor.shape = np.abs(np.array(shape, np.int32))
        tensor.shapeSignature = np.array(shape, np.int32)
        return self._add(tensor)

    def constant(self, values: Any) -> int:
        """Adds a tensor of whole numbers that are known."""
        array = np.asarray(values, np.int32)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        tensor = self._schema.TensorT()
        tensor.name, tensor.type = "constant", self._schema.TensorType.INT32
        tensor.shape, tensor.buffer = np.array(array.shape, np.int32), len(self._model.buffers) - 1
        return self._add(tensor)

    def _add(self, tensor: Any) -> int:
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def operator(self, kind: str, inputs: list[int], outputs: list[int], options: Any) -> Any:
        """Makes an operator, which the caller puts in its place."""
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


def encoded(model: Any) -> bytes:
    """Returns a model's bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]
