"""Forms: what requests that follow one another have in common. Pure.

A client of a sequence sends the same bytes again and again, but for the id of the request
and the readings. So what the rest says, the form, is parsed and checked once, and found
again by its bytes.

Nothing is guessed. A message is a row of fields, each of which says where it ends. A form is
remembered if the parser reads the same without the field of the id and without that of the
raw contents, which is the last: so whatever else stands in their places is id and contents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from tickcell.server.oip.protocol import pb
from tickcell.server.oip.tensors import Frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.server.oip.asked import Asked
    from tickcell.server.oip.naming import Port
    from tickcell.server.oip.tensors import Layout

# About 2 MB of them. Once there are more, all are forgotten: those in use come again.
_MOST = 1024
_MOST_BYTES = 1024

_FIELDS = pb.ModelInferRequest.DESCRIPTOR.fields_by_name
# Of fields that say their length.
_NAME, _VERSION, _ID = (
    _FIELDS[name].number << 3 | 2 for name in ("model_name", "model_version", "id")
)
_BEFORE_ID = (_NAME, _VERSION)
_NONE = (None, 0)


class Form:
    """What a request says beside its id and its raw contents.

    Attributes:
      asked: what it asks for.
      message: it, without the two.
    """

    __slots__ = ("asked", "fit", "message")

    def __init__(self, asked: Asked, message: Any) -> None:
        self.asked = asked
        self.message = message
        # What it was read as by the layout that read it last.
        self.fit: _Fit | None = None


class _Fit(NamedTuple):
    """What a form says by a layout, where its raw contents are the readings themselves."""

    layout: Layout
    size: int
    step_count: int
    has_time: bool
    ports: tuple[Port, ...]


class Said(NamedTuple):
    """What a request says beside its id.

    Attributes:
      form: all but the raw contents.
      raw: those.
    """

    form: Form
    raw: Sequence[bytes]

    def read(self, layout: Layout) -> tuple[Frames, tuple[Port, ...]]:
        """Returns the frames, and the outputs that are asked for.

        Raises:
          ArgumentInvalid: see `Layout.read` and `Layout.requested`.
        """
        form, raw = self
        fit = form.fit
        if fit is not None and fit.layout is layout and len(raw[0]) == fit.size:
            return Frames(fit.step_count, raw[0], fit.has_time), fit.ports
        frames, ports = layout.read(form.message, raw), layout.requested(form.message)
        if len(raw) == 1 and frames.encoded is raw[0]:
            form.fit = _Fit(layout, len(raw[0]), frames.step_count, frames.has_time, ports)
        return frames, ports


class Forms:
    """The forms of late, by their bytes."""

    def __init__(self) -> None:
        # Each with the size of its raw contents.
        self._forms: dict[bytes, tuple[Form, int]] = {}
        # That size, as it was last for a message that has so many bytes without its id.
        self._raw_sizes: dict[int, int] = {}

    def find(self, encoded: bytes) -> tuple[str, Said] | None:
        """Returns a request's id and what it says, if its form is remembered."""
        start, end = _id_place(encoded)
        raw_size = self._raw_sizes.get(len(encoded) - end + start)
        if raw_size is None or end > len(encoded) - raw_size:
            return None
        form, own_size = self._forms.get(encoded[:start] + encoded[end:-raw_size], _NONE)
        if form is None or own_size != raw_size:
            return None
        try:
            request_id = encoded[start + 2 : end].decode()
        except UnicodeDecodeError:
            # The parser says so.
            return None
        return request_id, Said(form, (encoded[-raw_size:],))

    def remember(self, encoded: bytes, said: Said) -> None:
        """Remembers the form of a request, if it may come again and is found by its bytes."""
        form, raw = said
        asked = form.asked
        if asked.starts or asked.ends or asked.life or len(raw) != 1 or not raw[0]:
            return
        start, end = _id_place(encoded)
        rest = encoded[:start] + encoded[end:]
        field = pb.ModelInferRequest(raw_input_contents=raw).SerializeToString()
        if len(rest) - len(field) > _MOST_BYTES or not rest.endswith(field):
            return
        try:
            # The parser itself says whether the two were all that was left out.
            if pb.ModelInferRequest.FromString(rest[: -len(field)]) != form.message:
                return
        except DecodeError:
            return
        if len(self._forms) >= _MOST:
            self._forms.clear()
            self._raw_sizes.clear()
        self._forms[rest[: -len(raw[0])]] = form, len(raw[0])
        self._raw_sizes[len(rest)] = len(raw[0])


def _id_place(encoded: bytes) -> tuple[int, int]:
    """Returns where a request's id begins and ends as a field, if it is behind name and version.

    All of them have fewer than 128 bytes, or the place is empty.
    """
    size = len(encoded)
    start = 0
    while start + 1 < size and encoded[start] in _BEFORE_ID and encoded[start + 1] < 128:
        start += 2 + encoded[start + 1]
    if start + 1 < size and encoded[start] == _ID and encoded[start + 1] < 128:
        return start, start + 2 + encoded[start + 1]
    return start, start
