"""What a server was expected to answer, and what it answered instead."""

from __future__ import annotations

from google.protobuf import text_format
from google.protobuf.message import Message

# Of one value in a sentence.
_LENGTH = 240
_VECTORS = {"frames": "readings", "outputs": "outputs"}


class Unmet(AssertionError):
    """A server did not do what the contract says.

    Attributes:
      got: what it answered.
      expected: what it should have answered.
      point: of the contract, where it is another than the test's.
    """

    def __init__(self, got: object, expected: object, point: int | str = "") -> None:
        self.got, self.expected, self.point = shown(got), shown(expected), point
        super().__init__(f"got {self.got}; expected {self.expected}")


def hold(got: object, expected: object, what: str = "", point: int | str = "") -> None:
    """Raises Unmet unless a server answered as it should.

    Args:
      got: what it answered.
      expected: what it should have answered.
      what: which part of the answer, for people.
      point: of the contract, where it is another than the test's.
    """
    if got != expected:
        name = what and f"{what} "
        raise Unmet(f"{name}{shown(got)}", shown(expected), point)


def shown(value: object) -> str:
    """Returns a value as a part of a sentence."""
    if isinstance(value, Message):
        text = _message(value)
    elif isinstance(value, bytes):
        text = value.hex() if len(value) <= 8 else f"{len(value)} bytes, {value[:24].hex()}"
    else:
        text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"


def _message(message: Message) -> str:
    """Returns a message by its fields; of its long vectors, how long they are."""
    copy = type(message)()
    copy.CopyFrom(message)
    lengths = []
    for field, unit in _VECTORS.items():
        if field in message.DESCRIPTOR.fields_by_name:
            lengths.append(f"{len(getattr(message, field))} {unit}")
            copy.ClearField(field)
    text = text_format.MessageToString(copy, as_one_line=True, as_utf8=True)
    return f"{message.DESCRIPTOR.name} of {', '.join(filter(None, [text, *lengths])) or 'nothing'}"
