"""Steps of sessions through their cells: frames and states in, outputs and states out; no I/O.

Rows are as a cell takes and gives them: frame and state of a series side by side, then
output and next state.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tickcell.server import episodes
from tickcell.server.record import is_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    rows: bytes | memoryview

    def compute(self) -> bytes:
        """Returns what it is sent."""
        return self.model.cell.step_rows(self.rows)


class Stretch(NamedTuple):
    """Needs several steps of one series: sent the `[T, O + S]` rows of these frames."""

    model: ServedModel
    frames: bytes
    state: bytes

    def compute(self) -> bytes:
        """Returns what it is sent."""
        return self.model.cell.stretch_rows(self.frames, self.state)


class Lockstep(NamedTuple):
    """Needs several steps of some series of one session: sent whether all is finite.

    Attributes:
      frames: `[T, R, F]`.
      state: `[R, S]`, which becomes the one after them.
      outputs: `[T, R, O]`, which are filled.
    """

    model: ServedModel
    frames: NDArray[np.float32]
    state: NDArray[np.float32]
    outputs: NDArray[np.float32]

    def compute(self) -> bool:
        """Returns what it is sent."""
        return self.model.cell.lockstep(self.frames, self.state, self.outputs)


CellCall = Call | Stretch | Lockstep


class Result(NamedTuple):
    """What the new steps of a request give.

    Attributes:
      outputs: `[T, B, O]` float32.
      state: `[B, S]` float32, after them.
      is_finite: whether the outputs and the state of every step are.
    """

    outputs: bytes
    state: bytes
    is_finite: bool


Computing = Generator[CellCall, Any, list[Result]]


def compute(begun: Sequence[Begun]) -> Computing:
    """Computes all new steps of some requests.

    A single series goes through stretches of steps; several, of one session or of many,
    go in lockstep, one call for each model and step index. Each step has the same bits,
    and is finite or not, however steps are divided.

    Returns:
      The result of each request.
    """
    if len(begun) == 1:
        (item,) = begun
        if item.request.resets:
            return [(yield from _compute_episodes(item))]
        alone = _one_series if item.record.life.series_count == 1 else _several_series
        return [(yield from alone(item))]
    by_model: dict[str, list[Begun]] = {}
    beginning: list[Begun] = []
    for item in begun:
        if item.request.resets:
            beginning.append(item)
        else:
            by_model.setdefault(item.model.fingerprint, []).append(item)
    if len(by_model) == 1 and not beginning:
        return (yield from _compute_together(begun))
    results: dict[Key, Result] = {}
    for item in beginning:
        results[item.key] = yield from _compute_episodes(item)
    for group in by_model.values():
        found = yield from _compute_together(group)
        results.update(zip([item.key for item in group], found, strict=True))
    return [results[item.key] for item in begun]


def _compute_episodes(begun: Begun) -> Generator[CellCall, Any, Result]:
    """Steps a session of which series begin anew: in parts, one after the other."""
    outputs = []
    cut = episodes.parts(begun)
    part = next(cut)
    while True:
        (result,) = yield from compute([part])
        if not result.is_finite:
            return Result(b"", begun.record.state, is_finite=False)
        outputs.append(result.outputs)
        try:
            part = cut.send(result.state)
        except StopIteration:
            return Result(b"".join(outputs), result.state, is_finite=True)


def _one_series(begun: Begun) -> Generator[CellCall, Any, Result]:
    """Steps a session of one series: a row is a frame and a state, end to end."""
    request, _, record, _, _, model, _, stored, _, _ = begun
    life, state = record.life, record.state
    size, output_size = life.frame_size, life.output_size
    frames = request.frames
    if len(frames) == size:
        row = yield Call(model, frames + state)
        return Result(row[:output_size], row[output_size:], is_finite(row))
    most = size * model.stretch_steps
    outputs = []
    for start in range(stored * size, len(frames), most):
        rows = yield Stretch(model, frames[start : start + most], state)
        if not is_finite(rows):
            return Result(b"", state, is_finite=False)
        table = np.frombuffer(rows, _F4).reshape(-1, life.output_count + life.state_size)
        outputs.append(table[:, : life.output_count].tobytes())
        state = rows[-len(state) :]
    return Result(b"".join(outputs), state, is_finite=True)


def _several_series(begun: Begun) -> Generator[CellCall, Any, Result]:
    """Steps a session of several series."""
    life, model = begun.record.life, begun.model
    start = begun.stored * life.frame_size
    frames = np.frombuffer(begun.request.frames, _F4, offset=start)
    frames = frames.reshape(-1, life.series_count, life.sensor_count)
    state = np.frombuffer(begun.record.state, _F4).reshape(life.series_count, -1).copy()
    outputs = np.empty((*frames.shape[:2], life.output_count), _F4)
    steps, series = model.pace.lockstep_piece(*frames.shape[:2])
    for first in range(0, life.series_count, series):
        own = slice(first, first + series)
        for step in range(0, len(frames), steps):
            now = slice(step, step + steps)
            if not (yield Lockstep(model, frames[now, own], state[own], outputs[now, own])):
                return Result(b"", begun.record.state, is_finite=False)
    return Result(outputs.tobytes(), state.tobytes(), is_finite=True)


def _tick_together(group: Sequence[Begun]) -> Computing:
    """Steps sessions of one model and one series, each by one step: the most of all that is done.

    A request's new frame is its last.
    """
    model, life = group[0].model, group[0].record.life
    size, output_size = life.frame_size, life.output_size
    parts: list[bytes] = []
    for item in group:
        parts += (item.request.frames[-size:], item.record.state)
    rows = b"".join(parts)
    stepped = yield from _call(model, rows, len(rows) // len(group))
    are_all_finite = is_finite(stepped)
    row_size = len(stepped) // len(group)
    results = []
    for start in range(0, len(stepped), row_size):
        row = stepped[start : start + row_size]
        results.append(
            Result(row[:output_size], row[output_size:], are_all_finite or is_finite(row))
        )
    return results


def _compute_together(group: Sequence[Begun]) -> Computing:
    """Steps sessions of one model in lockstep, each as long as it has frames."""
    if _are_ticks(group):
        return (yield from _tick_together(group))
    model = group[0].model
    interface = model.cell.interface
    row_in_size = 4 * (interface.sensor_count + interface.state_size)
    row_size = 4 * (interface.output_count + interface.state_size)
    states = [item.record.state for item in group]
    outputs: list[list[bytes]] = [[] for _ in group]
    are_finite = [True] * len(group)
    for step in range(max(item.new_count for item in group)):
        stepping = [at for at, item in enumerate(group) if step < item.new_count]
        rows = b"".join([_rows(group[at], step, states[at]) for at in stepping])
        stepped = yield from _call(model, rows, row_in_size)
        are_all_finite = is_finite(stepped)
        start = 0
        for at in stepping:
            life = group[at].record.life
            end = start + row_size * life.series_count
            own = stepped[start:end]
            output, states[at] = _parts(life, own)
            outputs[at].append(output)
            if not are_all_finite:
                are_finite[at] &= is_finite(own)
            start = end
    joined = [b"".join(own) for own in outputs]
    return [Result(*parts) for parts in zip(joined, states, are_finite, strict=True)]


def _are_ticks(group: Sequence[Begun]) -> bool:
    """Says whether each request has one new step, of one series."""
    for item in group:
        if item.request.step_count - item.stored != 1 or item.record.life.series_count != 1:
            return False
    return True


def _call(
    model: ServedModel, rows: bytes | memoryview, row_size: int
) -> Generator[Call, bytes, bytes]:
    """Steps rows of so many bytes, in several calls if one would be longer than a slice."""
    size = row_size * model.pace.slice_rows
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
