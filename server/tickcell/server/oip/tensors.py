"""The tensors of inference requests and responses: a model's frames and outputs, by its names.

A tensor is `[1, *dims]` for one frame, or `[1, T, *dims]` for T of them, and what it is
answered with has the same form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tickcell.server import errors
from tickcell.server.oip.protocol import pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tickcell.server.oip.naming import Naming, Port

FLOAT32 = "FP32"
# By the datatype: how its numbers lie in raw contents, and which field has them else.
_DATATYPES = {
    FLOAT32: ("<f4", "fp32_contents"),
    "FP64": ("<f8", "fp64_contents"),
    "INT32": ("<i4", "int_contents"),
}
_SIZE = "binary_data_size"


class Frames(NamedTuple):
    """The frames of a request.

    Attributes:
      step_count: T.
      encoded: `[T, 1, F]` float32, little-endian.
      has_time: whether the request's tensors have an axis of time.
    """

    step_count: int
    encoded: bytes
    has_time: bool


class Layout:
    """Reads and writes the tensors of one model version."""

    def __init__(self, model: str, version: str, naming: Naming) -> None:
        self._model = model
        self._version = version
        self.naming = naming
        self._sensor_count = sum(len(port.columns) for port in naming.inputs)
        self._output_count = sum(len(port.columns) for port in naming.outputs)
        # The bytes of what a response with all outputs says beside its numbers, by the form of
        # what was asked.
        self._heads: dict[tuple[int, bool, tuple[Port, ...]], bytes] = {}

    def read(self, message: Any, raw: Sequence[bytes]) -> Frames:
        """Reads the frames of a request.

        Args:
          message: it, without its raw contents.
          raw: those.

        Raises:
          ArgumentInvalid: an input is missing, unknown, or not as the model takes it.
        """
        inputs = message.inputs
        ports = self.naming.inputs
        if len(inputs) != len(ports):
            names = ", ".join(port.name for port in ports)
            raise _invalid("inputs", f"{len(inputs)} inputs", f"{len(ports)}: {names}")
        # A request's contents are all raw, or none is.
        if raw and len(raw) != len(inputs):
            raise _invalid("raw_input_contents", f"{len(raw)} of them", f"{len(inputs)} or none")
        contents: Sequence[bytes | None] = raw or [None] * len(inputs)
        if len(ports) == 1:
            return self._tensor(ports[0], inputs[0], contents[0])
        return self._assembled(
            dict(zip([each.name for each in inputs], contents, strict=True)), inputs
        )

    def requested(self, message: Any) -> tuple[Port, ...]:
        """Returns the outputs that a request asks for; all where it names none.

        Raises:
          ArgumentInvalid: an output is unknown or named twice, or asked for with a parameter.
        """
        asked = message.outputs
        if not asked:
            return self.naming.outputs
        known = {port.name: port for port in self.naming.outputs}
        for each in asked:
            if each.parameters:
                raise _parameter(f"output {each.name[:80]!r}", each.parameters)
            if each.name not in known:
                raise _invalid("outputs", repr(each.name[:80]), f"some of {', '.join(known)}")
        ports = tuple(known[each.name] for each in asked)
        if len({*ports}) != len(ports):
            raise _invalid("outputs", [port.name for port in ports], "each of them once")
        return ports

    def fill(self, response: Any, outputs: bytes, frames: Frames, ports: tuple[Port, ...]) -> None:
        """Writes a response's model and tensors.

        Args:
          response: the message to fill.
          outputs: `[T, 1, O]` float32.
          frames: what they answer.
          ports: the outputs to write.
        """
        form = (frames.step_count, frames.has_time, ports)
        head = self._heads.get(form)
        if head is None:
            head = self._head(*form)
            if ports == self.naming.outputs:
                self._heads[form] = head
        response.MergeFromString(head)
        raw = response.raw_output_contents
        if len(ports) == 1 and len(ports[0].columns) == self._output_count:
            raw.append(outputs)
            return
        table = np.frombuffer(outputs, "<f4").reshape(frames.step_count, self._output_count)
        raw.extend([table[:, port.columns].tobytes() for port in ports])

    def _head(self, step_count: int, has_time: bool, ports: tuple[Port, ...]) -> bytes:
        time = (step_count,) if has_time else ()
        tensor = pb.ModelInferResponse.InferOutputTensor
        encoded: bytes = pb.ModelInferResponse(
            model_name=self._model,
            model_version=self._version,
            outputs=[
                tensor(name=port.name, datatype=FLOAT32, shape=(1, *time, *port.dims))
                for port in ports
            ],
        ).SerializeToString()
        return encoded

    def _assembled(self, contents: dict[str, Any], inputs: Any) -> Frames:
        """Puts the readings of several inputs side by side."""
        given = {each.name: each for each in inputs}
        table: NDArray[np.float32] | None = None
        first: Frames | None = None
        for port in self.naming.inputs:
            if port.name not in given:
                raise _invalid("inputs", ", ".join(map(repr, given))[:200], repr(port.name))
            frames = self._tensor(port, given[port.name], contents[port.name])
            if first is None or table is None:
                first = frames
                table = np.empty((frames.step_count, self._sensor_count), "<f4")
            elif (frames.step_count, frames.has_time) != (first.step_count, first.has_time):
                raise _invalid(port.name, "another axis of time", "that of the other inputs")
            readings = np.frombuffer(frames.encoded, "<f4")
            table[:, port.columns] = readings.reshape(frames.step_count, -1)
        assert first is not None
        assert table is not None
        return first._replace(encoded=table.tobytes())

    def _tensor(self, port: Port, tensor: Any, raw: bytes | None) -> Frames:
        """Reads one input."""
        if tensor.name != port.name:
            raise _invalid("inputs", repr(tensor.name[:80]), repr(port.name))
        if tensor.parameters:
            _check_parameters(port, tensor.parameters, raw)
        step_count, has_time = self._form(port, tuple(tensor.shape))
        count = step_count * len(port.columns)
        if raw is not None and tensor.datatype == FLOAT32 and not tensor.HasField("contents"):
            if len(raw) != 4 * count:
                raise _invalid(port.name, f"{len(raw)} bytes", f"{4 * count}: {count} of FP32")
            return Frames(step_count, raw, has_time)
        numbers = _numbers(port, tensor, raw)
        if len(numbers) != count:
            raise _invalid(port.name, f"{len(numbers)} numbers", f"{count}, as its shape says")
        return Frames(step_count, _float32(port, numbers).tobytes(), has_time)

    def _form(self, port: Port, shape: tuple[int, ...]) -> tuple[int, bool]:
        """Returns how many frames a tensor of this shape has, and whether it has a time axis."""
        dims = port.dims
        rank = len(shape) - len(dims)
        if rank in (1, 2) and shape[rank:] == dims:
            if shape[0] > 1:
                raise errors.ArgumentInvalid(
                    f"inference request to model '{self._model}' must specify batch-size 1 due to "
                    f"requirements of sequence batcher: {port.name}: got shape {list(shape)}",
                    field=port.name,
                    got=list(shape),
                )
            if shape[0] == 1 and shape[rank - 1] > 0:
                return shape[rank - 1], rank == 2
        got = f"shape {list(shape[:8])}"
        raise _invalid(port.name, got, f"{[1, *dims]} for a frame, or {[1, 'T', *dims]} for T")


def _numbers(port: Port, tensor: Any, raw: bytes | None) -> NDArray[Any]:
    """Returns a tensor's numbers as they were sent."""
    if tensor.datatype not in _DATATYPES:
        raise _invalid(port.name, f"datatype {tensor.datatype[:80]!r}", " or ".join(_DATATYPES))
    dtype, field = _DATATYPES[tensor.datatype]
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if raw is None:
        if filled != [field]:
            raise _invalid(port.name, f"contents {filled}", f"{field}, or raw_input_contents")
        return np.array(getattr(tensor.contents, field), dtype)
    if filled:
        raise _invalid(port.name, f"contents {filled} beside raw ones", "one of the two")
    if len(raw) % np.dtype(dtype).itemsize:
        raise _invalid(port.name, f"{len(raw)} bytes", f"a whole number of {tensor.datatype}")
    return np.frombuffer(raw, dtype)


def _float32(port: Port, numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the same numbers as float32.

    Raises:
      ArgumentInvalid: it does not hold one of them.
    """
    with np.errstate(over="ignore"):
        readings = numbers.astype("<f4")
    is_held = (readings.astype("<f8") == numbers) | np.isnan(numbers)
    if not is_held.all():
        index = int(np.argmin(is_held))
        raise _invalid(port.name, f"{numbers[index]} at {index}", "a number that float32 holds")
    return readings


def _check_parameters(port: Port, parameters: Any, raw: bytes | None) -> None:
    """Raises ArgumentInvalid unless an input has no parameter but the size of its bytes.

    KServe's client says that beside the bytes themselves.
    """
    if {*parameters} != {_SIZE}:
        raise _parameter(f"input {port.name!r}", {*parameters} - {_SIZE})
    size = parameters[_SIZE].int64_param
    if raw is None or size != len(raw):
        got = "none" if raw is None else len(raw)
        raise _invalid(port.name, f"{got} raw bytes", f"{size}, as its {_SIZE} says")


def _parameter(whose: str, parameters: Any) -> errors.ArgumentInvalid:
    name = min(parameters)[:80]
    return errors.ArgumentInvalid(
        f"{whose}: got the parameter {name!r}, expected none: neither classification nor shared "
        "memory is served.",
        field="parameters",
        got=name,
    )


def _invalid(field: str, got: object, expected: str) -> errors.ArgumentInvalid:
    return errors.ArgumentInvalid(
        f"{field}: got {got}, expected {expected}.", field=field, got=got, expected=expected
    )
