"""Steps of sessions through their cells: frames and states in, outputs and states out; no I/O.

Rows are as a cell takes and gives them: frame and state of a series side by side, then
output and next state.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.server import episodes

if TYPE_CHECKING:
    from tickcell.server.catalogue import ServedModel
    from tickcell.server.clock import Moment
    from tickcell.server.preview import PreviewRequest
    from tickcell.server.record import Life, Record
    from tickcell.server.rules import StepRequest
    from tickcell.server.store.contract import Key

_F4 = np.dtype("<f4")


class Begun(NamedTuple):
    """A step request of which some steps are new.

    Attributes:
      request: what is asked.
      encoded: the bytes of the record that it begins from.
      record: that record.
      is_proven: whether it was loaded for this request; else it was the session's head.
      now: when it was decided.
      model: the one to which the session is pinned.
      first_step: the index of the request's first step.
      stored: how many of its steps are stored; the rest are new.
      histories: after each new step.
      previewed: what is asked, if nothing is to be applied; then record and request are those
        of its branches side by side.
    """

    request: StepRequest
    encoded: bytes | None
    record: Record
    is_proven: bool
    now: Moment
    model: ServedModel
    first_step: int
    stored: int
    histories: bytes
    previewed: PreviewRequest | None = None

    @property
    def key(self) -> Key:
        """The session's."""
        return self.request.key

    @property
    def new_count(self) -> int:
        """How many new steps there are."""
        return self.request.step_count - self.stored


class Call(NamedTuple):
    """Needs one call of a model's cell: sent `[R, O + S]` rows for these `[R, F + S]`."""

    model: ServedModel
    rows: bytes


def compute(begun: Sequence[Begun]) -> Generator[Call, bytes, list[tuple[bytes, bytes]]]:
    """Computes all new steps: per model and time step, one call for all sessions.

    Returns:
      Of each request the outputs of its new steps, `[T, B, O]` float32, and the state
      after them, `[B, S]`.
    """
    if len(begun) == 1 and begun[0].record.life.series_count == 1 and not begun[0].request.resets:
        # One agent's tick: a row is a frame and a state, end to end.
        ((request, _, record, _, _, model, _, stored, _, _),) = begun
        size, output_size = record.life.frame_size, record.life.output_size
        state, outputs = record.state, b""
        for start in range(stored * size, len(request.frames), size):
            row = yield Call(model, request.frames[start : start + size] + state)
            outputs += row[:output_size]
            state = row[output_size:]
        return [(outputs, state)]
    if any(item.request.resets for item in begun):
        return (yield from _compute_episodes(begun))
    results: dict[Key, tuple[bytes, bytes]] = {}
    by_model: dict[str, list[Begun]] = {}
    for item in begun:
        by_model.setdefault(item.model.fingerprint, []).append(item)
    for group in by_model.values():
        found = yield from _compute_together(group)
        results.update(zip([item.key for item in group], found, strict=True))
    return [results[item.key] for item in begun]


def _compute_episodes(begun: Sequence[Begun]) -> Generator[Call, bytes, list[tuple[bytes, bytes]]]:
    """Computes requests in some of which series begin anew: these in parts, one after the other."""
    plain = [item for item in begun if not item.request.resets]
    results = dict(zip([item.key for item in plain], (yield from compute(plain)), strict=True))
    for item in begun:
        if not item.request.resets:
            continue
        outputs = []
        cut = episodes.parts(item)
        part = next(cut, None)
        while part is not None:
            ((own, state),) = yield from compute([part])
            outputs.append(own)
            try:
                part = cut.send(state)
            except StopIteration:
                part = None
        results[item.key] = (b"".join(outputs), state)
    return [results[item.key] for item in begun]


def _compute_together(
    group: Sequence[Begun],
) -> Generator[Call, bytes, list[tuple[bytes, bytes]]]:
    """Steps sessions of one model in lockstep, each as long as it has frames."""
    model = group[0].model
    interface = model.cell.interface
    row_size = 4 * (interface.output_count + interface.state_size)
    states = [item.record.state for item in group]
    outputs: list[list[bytes]] = [[] for _ in group]
    for step in range(max(item.new_count for item in group)):
        stepping = [at for at, item in enumerate(group) if step < item.new_count]
        rows = b"".join([_rows(group[at], step, states[at]) for at in stepping])
        stepped = yield from _call(model, rows)
        start = 0
        for at in stepping:
            life = group[at].record.life
            end = start + row_size * life.series_count
            output, states[at] = _parts(life, stepped[start:end])
            outputs[at].append(output)
            start = end
    return [(b"".join(own), state) for own, state in zip(outputs, states, strict=True)]


def _call(model: ServedModel, rows: bytes) -> Generator[Call, bytes, bytes]:
    """Steps rows, in several calls if one would be longer than a slice."""
    interface = model.cell.interface
    size = 4 * (interface.sensor_count + interface.state_size) * model.pace.slice_rows
    if len(rows) <= size:
        return (yield Call(model, rows))
    parts = []
    for start in range(0, len(rows), size):
        parts.append((yield Call(model, rows[start : start + size])))
    return b"".join(parts)


def _rows(begun: Begun, step: int, state: bytes) -> bytes:
    """Returns the rows in of a new step, `[B, F + S]` float32."""
    life = begun.record.life
    start = (begun.stored + step) * life.frame_size
    frame = begun.request.frames[start : start + life.frame_size]
    if life.series_count == 1:
        return frame + state
    return np.concatenate(
        (
            np.frombuffer(frame, _F4).reshape(life.series_count, -1),
            np.frombuffer(state, _F4).reshape(life.series_count, -1),
        ),
        axis=1,
    ).tobytes()


def _parts(life: Life, rows: bytes) -> tuple[bytes, bytes]:
    """Returns output and next state of a step's rows out, `[B, O + S]` float32."""
    if life.series_count == 1:
        return rows[: life.output_size], rows[life.output_size :]
    table = np.frombuffer(rows, _F4).reshape(life.series_count, -1)
    return table[:, : life.output_count].tobytes(), table[:, life.output_count :].tobytes()
