"""A session as a message that says all of itself, and back.

State tensors go by name and shape, in and out: which columns of a packed state row they are
is each side's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from tickcell.server import beginnings, errors
from tickcell.server.record import is_finite
from tickcell.v1 import session_service_pb2 as pb
from tickcell.wire import history

if TYPE_CHECKING:
    from tickcell.model import Interface
    from tickcell.server.beginnings import Start
    from tickcell.server.record import Record
    from tickcell.server.seal import Seal

FORMAT_VERSION = 1


class Copy(NamedTuple):
    """What a session is to begin with that is a copy of another one.

    Attributes:
      start: its state, step and window.
      origin: to what a reset returns; None for the cell's own beginning.
    """

    start: Start
    origin: Start | None


def export(
    session: str, found: Record, interface: Interface, seal: Seal, *, has_window: bool
) -> pb.SessionExport:
    """Returns the export of a session.

    Args:
      session: its id.
      found: its record.
      interface: of its model, which names the state tensors.
      seal: signs it.
      has_window: whether the window comes along.
    """
    life = found.life
    content = pb.SessionContent(
        session=session,
        generation=life.generation,
        model=life.model,
        model_version=life.model_version,
        model_fingerprint=life.fingerprint,
        numerics_digest=found.numerics.hex(),
        series_count=life.series_count,
        window_step_count=life.window,
        step=found.next_step,
        history=found.history_before(found.next_step),
        state_tensors=tensors(found.state, interface, life.series_count),
        labels=life.labels,
    )
    origin = beginnings.origin_of(found)
    if origin is not None:
        content.origin.CopyFrom(
            pb.SessionOrigin(
                step=origin.step,
                history=origin.histories,
                numerics_digest=origin.numerics.hex(),
                state_tensors=tensors(origin.state, interface, life.series_count),
            )
        )
    if has_window:
        content.window.history_chain = found.histories
        content.window.outputs.extend(np.frombuffer(found.outputs, "<f4").tolist())
    encoded = content.SerializeToString(deterministic=True)
    return pb.SessionExport(
        format_version=FORMAT_VERSION,
        content=encoded,
        signature=seal.sign(FORMAT_VERSION, encoded),
    )


def read(exported: pb.SessionExport, seal: Seal) -> pb.SessionContent:
    """Returns what an export says of its session.

    Raises:
      ExportNewer: a newer tickcell wrote it, in a format that is not read here.
      ExportRefused: it is not signed by the server's key, or is none.
    """
    version, content = exported.format_version, exported.content
    if version > FORMAT_VERSION:
        raise errors.ExportNewer(
            f"export: has format version {version}, and this tickcell reads up to "
            f"{FORMAT_VERSION}; import it on a newer one.",
            version=version,
            max_version=FORMAT_VERSION,
        )
    if not seal.is_right(version, content, exported.signature):
        how = "is not signed" if not exported.signature else "has a signature of another key"
        raise refused(
            f"it {how}, or was changed since; take one from a server with the same --export-key"
        )
    try:
        if version < 1:
            raise DecodeError(f"format version {version}")
        return pb.SessionContent.FromString(content)
    except DecodeError as error:
        raise refused(f"it is damaged, or not an export: {error}") from error


def copy(content: pb.SessionContent, interface: Interface, window: int) -> Copy:
    """Returns what a session begins with that an export is of.

    Args:
      content: what the export says.
      interface: of its model.
      window: the steps that the new session keeps; older ones are left behind.

    Raises:
      ExportRefused: it says what no session could be.
    """
    series = content.series_count
    if series < 1 or content.step < 0:
        raise refused(f"it has {series} series at step {content.step}")
    try:
        state = packed(content.state_tensors, interface, series)
        start = beginnings.Start(_numerics(content), state, content.step, _history(content))
        start = _with_window(content, start, 4 * series * interface.output_count, window)
        if not content.HasField("origin"):
            return Copy(start, None)
        own = content.origin
        state = packed(own.state_tensors, interface, series)
        if not 0 <= own.step <= content.step:
            raise StateError(f"step {own.step} of the origin", f"0 to {content.step}")
        return Copy(start, beginnings.Start(_numerics(own), state, own.step, _history(own)))
    except StateError as error:
        raise refused(str(error), got=error.got, expected=error.expected) from error


class StateError(ValueError):
    """State tensors are not those that they must be.

    Attributes:
      got, expected: what there is, and what there must be.
    """

    def __init__(self, got: object, expected: object) -> None:
        super().__init__(f"got {got}, expected {expected}")
        self.got, self.expected = got, expected


def tensors(state: bytes, interface: Interface, series_count: int) -> list[pb.StateTensor]:
    """Returns the state tensors in packed rows, by name.

    Args:
      state: `[B, S]` float32, little-endian.
      interface: names them.
      series_count: B.
    """
    rows = np.frombuffer(state, "<f4").reshape(series_count, -1)
    found = []
    start = 0
    for tensor in interface.state_tensors:
        columns = rows[:, start : start + tensor.size]
        found.append(
            pb.StateTensor(
                name=tensor.name,
                dimensions=(series_count, *tensor.shape),
                values=columns.ravel().tolist(),
            )
        )
        start += tensor.size
    return found


def packed(given: Iterable[Any], interface: Interface, series_count: int) -> bytes:
    """Returns packed rows, `[B, S]` float32, of state tensors by name.

    Args:
      given: the tensors, each of the model's once, in any order.
      interface: of the model.
      series_count: B.

    Raises:
      StateError: one is missing, unknown or there twice, or has another shape, or is not finite.
    """
    by_name = {each.name: each for each in given}
    names = [tensor.name for tensor in interface.state_tensors]
    if sorted(each.name for each in given) != sorted(names):
        got = ", ".join(each.name[:80] for each in given) or "none"
        raise StateError(f"the state tensors {got[:500]}", ", ".join(names))
    columns = []
    for tensor in interface.state_tensors:
        found = by_name[tensor.name]
        shape = (series_count, *tensor.shape)
        values = np.array(found.values, "<f4")
        if tuple(found.dimensions) != shape or len(values) != series_count * tensor.size:
            got = f"{tensor.name} of {list(found.dimensions)[:8]} with {len(values)} values"
            raise StateError(got, f"{list(shape)}, the series first")
        if not is_finite(values.tobytes()):
            raise StateError(f"{tensor.name} with a value that is not finite", "finite numbers")
        columns.append(values.reshape(series_count, -1))
    return np.concatenate(columns, axis=1).tobytes()


def refused(problem: str, **more: object) -> errors.ExportRefused:
    """Returns the answer to an export that is not taken."""
    return errors.ExportRefused(f"export: {problem}; nothing was created.", problem=problem, **more)


def _numerics(said: pb.SessionContent | pb.SessionOrigin) -> bytes:
    try:
        digest = bytes.fromhex(said.numerics_digest)
    except ValueError:
        digest = b""
    if len(digest) != 8:
        raise StateError(f"the numerics digest {said.numerics_digest[:80]!r}", "16 digits")
    return digest


def _history(said: pb.SessionContent | pb.SessionOrigin) -> bytes:
    if len(said.history) != history.SIZE:
        raise StateError(f"a history of {len(said.history)} bytes", history.SIZE)
    return said.history


def _with_window(content: pb.SessionContent, start: Start, output_size: int, window: int) -> Start:
    """Returns a start with as much of the export's window as fits another one."""
    if not content.HasField("window"):
        return start
    histories = content.window.history_chain
    outputs = np.array(content.window.outputs, "<f4").tobytes()
    kept = len(histories) // history.SIZE - 1
    sizes = (history.SIZE * (kept + 1), output_size * kept)
    is_right = 0 <= kept <= content.step and histories[-history.SIZE :] == content.history
    if not is_right or (len(histories), len(outputs)) != sizes or not is_finite(outputs):
        got = f"a window of {len(histories)} bytes of histories and {len(outputs) // 4} outputs"
        raise StateError(got, f"one that ends at step {content.step} with its history")
    kept = min(kept, window)
    return start._replace(
        histories=histories[len(histories) - history.SIZE * (kept + 1) :],
        outputs=outputs[len(outputs) - output_size * kept :],
    )
