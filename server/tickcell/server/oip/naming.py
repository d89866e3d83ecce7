"""How a model's inputs and outputs are called, and which axes they have. Pure.

By itself a model has one input, "frames", of all its sensors, and an output for each of
its heads, with the head's name. A file `oip.json` beside its bundle may say otherwise, for
clients that know other names:

    {"inputs": [{"name": "INPUT__0", "dims": [10, 1]}], "outputs": [{"name": "OUTPUT__0"}]}

Several inputs name their `sensors`, each once, and several outputs their `head`. `dims` are
the axes behind batch and time: the number of sensors, or of the head's numbers, and
otherwise ones.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tickcell.model import Interface

FILE = "oip.json"
_INPUT = "frames"


class NamingError(ValueError):
    """`oip.json` does not fit its model."""


class Port(NamedTuple):
    """An input, or an output.

    Attributes:
      name: its name.
      dims: its axes behind batch and time.
      columns: which readings of a frame, or numbers of an output row, are its own.
    """

    name: str
    dims: tuple[int, ...]
    columns: tuple[int, ...]


class Naming(NamedTuple):
    """All inputs and outputs of a model."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def by_default(interface: Interface) -> Naming:
    """Returns how a model's inputs and outputs are called where nobody says otherwise."""
    every = tuple(range(interface.sensor_count))
    outputs = [Port(name, (len(each),), each) for name, each in _heads(interface).items()]
    return Naming((Port(_INPUT, (len(every),), every),), tuple(outputs))


def read(encoded: bytes, interface: Interface) -> Naming:
    """Reads an `oip.json`.

    Raises:
      NamingError: it is none, or does not fit the model.
    """
    usual = by_default(interface)
    sensors: dict[str, tuple[int, ...]] = {
        sensor.name: (index,) for index, sensor in enumerate(interface.sensors)
    }
    try:
        said = json.loads(encoded)
        unknown = {*said} - {"inputs", "outputs"}
        if unknown:
            raise NamingError(f"got {sorted(unknown)}, expected inputs and outputs.")
        return Naming(
            _ports("inputs", "sensors", said, sensors) or usual.inputs,
            _ports("outputs", "head", said, _heads(interface)) or usual.outputs,
        )
    except NamingError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NamingError(f"cannot be read: {error!r}.") from error


def _heads(interface: Interface) -> dict[str, tuple[int, ...]]:
    """Returns each head's numbers in an output row."""
    ends = itertools.accumulate(head.size for head in interface.heads)
    return {
        head.name: tuple(range(end - head.size, end))
        for head, end in zip(interface.heads, ends, strict=True)
    }


def _ports(
    field: str, part: str, said: dict[str, Any], known: dict[str, tuple[int, ...]]
) -> tuple[Port, ...]:
    """Reads the inputs or the outputs, of which each has some of what the model has."""
    items = said.get(field, [])
    ports = []
    used: list[str] = []
    for item in items:
        unknown = {*item} - {"name", "dims", part}
        if unknown:
            raise NamingError(f"{field}: got {sorted(unknown)}, expected name, dims and {part}.")
        names = item[part] if part in item or len(items) > 1 else list(known)
        names = [names] if isinstance(names, str) else names
        missing = [name for name in names if name not in known]
        if missing:
            raise NamingError(f"{field}: got {part} {missing}, expected some of {list(known)}.")
        columns = tuple(column for name in names for column in known[name])
        ports.append(Port(item["name"], _dims(item, len(columns)), columns))
        used += names
    if items and sorted(used) != sorted(known):
        raise NamingError(f"{field}: got {part} {used}, expected each of {list(known)} once.")
    titles = [port.name for port in ports]
    if len({*titles}) != len(titles) or not all(isinstance(each, str) and each for each in titles):
        raise NamingError(f"{field}: got the names {titles}, expected different ones.")
    return tuple(ports)


def _dims(item: dict[str, Any], size: int) -> tuple[int, ...]:
    dims = tuple(item.get("dims", (size,)))
    is_whole = all(isinstance(each, int) and each > 0 for each in dims)
    if (
        not dims
        or not is_whole
        or math.prod(dims) != size
        or sorted(dims)[:-1].count(1) + 1 != len(dims)
    ):
        raise NamingError(f"{item['name']}: got dims {list(dims)}, expected {size}, and else ones.")
    return dims
