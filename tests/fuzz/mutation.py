"""Messages made wrong: a field of a message, or bytes of what it is encoded as."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_EDGES = (0, 1, -1, 2, 31, 32, 33, 127, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63))
_NUMBERS = (0.0, -0.0, 1.0, 1e-45, -1e38, 3.4e38, 1e300, float("nan"), float("inf"), float("-inf"))
_TEXTS = ("", "\0", "x" * 64, "y" * 5000, "../../etc/passwd", "é" * 40, "7", "-1", "%s%n", "\u202e")
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: 32,
    FieldDescriptor.CPPTYPE_UINT32: -32,
    FieldDescriptor.CPPTYPE_INT64: 64,
    FieldDescriptor.CPPTYPE_UINT64: -64,
    FieldDescriptor.CPPTYPE_ENUM: 32,
}
_MOST_PARTS = 40


def upset(chance: random.Random, message: Message, words: Sequence[str | int]) -> None:
    """Changes a field of a message, or of one within it, to anything that its type allows.

    Args:
      chance: what is drawn from.
      message: to be changed.
      words: texts and whole numbers that mean something, such as the ids of sessions.
    """
    within: Any = chance.choice([*_parts(message)][:_MOST_PARTS])
    fields = within.DESCRIPTOR.fields
    if not fields:
        return
    field = chance.choice(fields)
    if chance.random() < 0.15:
        within.ClearField(field.name)
    elif _is_map(field):
        _upset_map(chance, getattr(within, field.name), field, words)
    elif field.is_repeated:
        _upset_list(chance, within, field, words)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        getattr(within, field.name).SetInParent()
    elif chance.random() < 0.2:
        _swap(chance, within, field)
    else:
        setattr(within, field.name, _value(chance, field, words))


def _parts(message: Message) -> Iterator[Message]:
    """Gives a message and those within it."""
    yield message
    field: Any
    for field, value in message.ListFields():
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
            continue
        if _is_map(field):
            entry = field.message_type.fields_by_name["value"]
            inner = list(value.values()) if entry.message_type else []
        else:
            inner = list(value) if field.is_repeated else [value]
        for each in inner:
            yield from _parts(each)


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _upset_map(chance: random.Random, entries: Any, field: Any, words: Sequence[str | int]) -> None:
    key_field, value_field = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for _ in range(chance.choice((1, 1, 2, 30))):
        old = [*entries]
        key = chance.choice(old) if old and chance.random() < 0.6 else None
        if key is None:
            key = _value(chance, key_field, words)
        if value_field.message_type:
            upset(chance, entries[key], words)
        else:
            entries[key] = _value(chance, value_field, words)


def _upset_list(
    chance: random.Random, message: Message, field: Any, words: Sequence[str | int]
) -> None:
    values = getattr(message, field.name)
    what = chance.randrange(4)
    if what == 0 and values:
        del values[chance.randrange(len(values))]
    elif what == 1 and values:
        # Repeated, once or far too often.
        values.extend([*values][:10] * chance.choice((1, 1, 1, 100)))
    elif field.message_type:
        values.add()
    elif values and what == 2:
        values[chance.randrange(len(values))] = _value(chance, field, words)
    else:
        values.append(_value(chance, field, words))


def _swap(chance: random.Random, message: Message, field: Any) -> None:
    """Exchanges a field with another one of its type."""
    alike = [
        other
        for other in message.DESCRIPTOR.fields
        if other.cpp_type == field.cpp_type and not other.is_repeated and other.type == field.type
    ]
    other = chance.choice(alike)
    first, second = getattr(message, field.name), getattr(message, other.name)
    setattr(message, field.name, second)
    setattr(message, other.name, first)


def _value(chance: random.Random, field: Any, words: Sequence[str | int]) -> Any:
    kind = field.cpp_type
    if kind in _INTEGERS:
        bits = _INTEGERS[kind]
        known = [word for word in words if isinstance(word, int)]
        number = chance.choice([*_EDGES, chance.getrandbits(64), *known])
        if bits < 0:
            return number % 2**-bits
        return (number + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return chance.choice((*_NUMBERS, chance.uniform(-100, 100)))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    text = chance.choice([*_TEXTS, *(word for word in words if isinstance(word, str))])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.choice((text.encode(), chance.randbytes(chance.choice((0, 1, 8, 40, 3000)))))
    return text


def garbled(chance: random.Random, encoded: bytes) -> bytes:
    """Returns bytes with one to three wrongs done to them."""
    changed = bytearray(encoded)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        chance.choice(_WRONGS)(chance, changed)
    return bytes(changed)


def _flip(chance: random.Random, changed: bytearray) -> None:
    for _ in range(chance.choice((1, 1, 8))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)


def _truncate(chance: random.Random, changed: bytearray) -> None:
    del changed[chance.randint(0, len(changed)) :]


def _cut(chance: random.Random, changed: bytearray) -> None:
    place = chance.randint(0, len(changed))
    del changed[place : place + chance.randint(1, 8)]


def _insert(chance: random.Random, changed: bytearray) -> None:
    place = chance.randint(0, len(changed))
    changed[place:place] = chance.randbytes(chance.randint(1, 8))


def _double(chance: random.Random, changed: bytearray) -> None:
    place, length = chance.randint(0, len(changed)), chance.randint(1, 64)
    changed[place:place] = changed[place : place + length]


def _claim(chance: random.Random, changed: bytearray) -> None:
    """Puts in a length, or a number, that is as large as can be written."""
    place = chance.randint(0, len(changed))
    tail = chance.choice((b"\x07", b"\x0f", b"\x7f", b"\xff" * 6 + b"\x01"))
    changed[place : place + 1] = b"\xff" * 4 + tail


def _nest(chance: random.Random, changed: bytearray) -> None:
    """Adds an unknown field within another, again and again."""
    depth = chance.choice((3, 90, 101, 2000))
    if chance.random() < 0.5:
        # Groups, which need no length; some are never closed.
        changed += b"\xa3\x06" * depth + b"\xa4\x06" * chance.choice((depth, 0))
        return
    inner = b""
    for _ in range(min(depth, 101)):
        inner = _delimited(chance.randint(1, 15), inner)
    changed += inner


def _misread(chance: random.Random, changed: bytearray) -> None:
    """Makes a text, or whatever is there, no UTF-8."""
    place, length = chance.randint(0, len(changed)), chance.randint(1, 6)
    end = min(place + length, len(changed))
    changed[place:end] = bytes(chance.randrange(0x80, 0x100) for _ in range(end - place))


def _add_field(chance: random.Random, changed: bytearray) -> None:
    """Adds a field once more, with content of another kind."""
    content = chance.choice((b"", b"\xff\xfe", chance.randbytes(20), b"\0" * 4096))
    changed += _delimited(chance.randint(1, 40), content)


def _delimited(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_WRONGS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(_flip, _truncate, _cut, _insert, _double, _claim, _nest, _misread, _add_field),
)
