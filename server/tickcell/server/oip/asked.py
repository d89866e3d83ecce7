"""What an inference request asks for, beside its tensors. Pure."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from tickcell.server import errors
from tickcell.server.oip import identity
from tickcell.server.oip.identity import Sequence

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ID_BYTES = 128

_INTEGERS = ("int64_param", "uint64_param")
# What each parameter may be. Priority and timeout are taken and have no effect: no request
# waits for another one's place, and none is dropped for having waited.
_KINDS: dict[str, tuple[str, ...]] = {
    "sequence_id": (*_INTEGERS, "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "sequence_life": ("string_param",),
    "sequence_step": _INTEGERS,
    "priority": _INTEGERS,
    "timeout": _INTEGERS,
    "triton_enable_empty_final_response": ("bool_param",),
}


class Asked(NamedTuple):
    """What is asked.

    Attributes:
      sequence: of which sequence.
      version: of its model; "" for the newest, or the one that it has.
      starts: whether a life begins with this request.
      ends: whether it ends with it.
      life: the UUID that the caller gave the life; "" for none.
      step: the index of the first frame; None where no life is named.
      wants_final: whether the response says that it is the last of its request.
    """

    sequence: Sequence
    version: str
    starts: bool
    ends: bool
    life: str
    step: int | None
    wants_final: bool


def read(message: Any) -> Asked:
    """Reads an inference request.

    Raises:
      ArgumentInvalid: a parameter is unknown, missing, malformed or out of its range.
    """
    values = _values(message.parameters)
    model = message.model_name
    starts = values.get("sequence_start", False)
    life, step = _life(values)
    if starts and step:
        raise _invalid("sequence_step", step, "0 in the request that starts the sequence")
    return Asked(
        Sequence(model, _sequence_id(model, values.get("sequence_id", 0))),
        message.model_version,
        starts,
        values.get("sequence_end", False),
        life,
        step,
        values.get("triton_enable_empty_final_response", False),
    )


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters' values by name."""
    values = {}
    for name, parameter in parameters.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            raise errors.ArgumentInvalid(
                f"parameters: got {name[:80]!r}, expected none but {', '.join(_KINDS)}.",
                field="parameters",
                got=name[:80],
            )
        kind = parameter.WhichOneof("parameter_choice")
        if kind not in kinds:
            raise _invalid(name, kind or "no value", " or ".join(kinds))
        values[name] = getattr(parameter, kind)
    return values


def _sequence_id(model: str, value: int | str) -> int | str:
    if not value:
        raise errors.ArgumentInvalid(
            f"inference request to model '{model[:80]}' must specify a non-zero or non-empty "
            "correlation ID",
            field="sequence_id",
        )
    if isinstance(value, int):
        return identity.integer_id(value)
    size = len(value.encode())
    if size > MAX_ID_BYTES:
        raise _invalid("sequence_id", f"{size} bytes", f"at most {MAX_ID_BYTES}")
    return value


def _life(values: dict[str, Any]) -> tuple[str, int | None]:
    life, step = values.get("sequence_life"), values.get("sequence_step")
    if life is None and step is None:
        return "", None
    if life is None or step is None:
        missing = "sequence_life" if life is None else "sequence_step"
        raise _invalid(missing, "none", "sequence_life and sequence_step together, or neither")
    if step < 0:
        raise _invalid("sequence_step", step, "0 or more")
    try:
        return str(uuid.UUID(life)), int(step)
    except ValueError as error:
        expected = "a UUID such as '6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31'"
        raise _invalid("sequence_life", repr(life[:80]), expected) from error


def _invalid(name: str, got: object, expected: str) -> errors.ArgumentInvalid:
    return errors.ArgumentInvalid(f"{name}: got {got}, expected {expected}.", field=name, got=got)
