"""Flight recordings run again: segment by segment, by the plain loop over their frames.

A segment is what one file holds of one generation of a session without a gap: a state, and
the steps that follow it. Its outputs and its histories are computed again from that state and
its frames. How segments join is for `timeline`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tickcell.server.flight.messages import ENDS
from tickcell.wire import history

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable, Iterator

    from tickcell.model import Cell
    from tickcell.server.flight.reading import Said
    from tickcell.server.store.contract import Key

_F4 = np.dtype("<f4")
Verdict = Literal["agrees", "DIFFERS", "not run"]

# Steps that are computed together at most.
_CHUNK = 256


class Standing(NamedTuple):
    """Where a session stood.

    Attributes:
      step: the step that was expected next.
      history: before that step.
      state: a digest of the state's bits; b"" where it is not known.
    """

    step: int
    history: bytes
    state: bytes


@dataclasses.dataclass
class Segment:
    """Steps of a session that follow one another.

    Attributes:
      key: the session's.
      path: of the file.
      kind: why it begins: a FlightEventKind.
      generation: of the session.
      model: its name, version and fingerprint.
      start, end: where it begins and ends.
      dropped: steps before it of which the recorder says that it dropped them.
      previous: generation and next step before this one, where it begins a generation.
      verdict: whether its bits agree.
      problem: what is wrong with it; "" where they do.
    """

    key: Key
    path: pathlib.Path
    kind: int
    generation: int
    model: tuple[str, str, str]
    start: Standing
    end: Standing
    dropped: int
    previous: tuple[int, int]
    verdict: Verdict = "agrees"
    problem: str = ""

    def differs(self, problem: str) -> None:
        """Notes what is wrong; what comes first counts."""
        if self.verdict == "agrees":
            self.verdict, self.problem = "DIFFERS", problem

    @property
    def step_count(self) -> int:
        """How many steps it has."""
        return self.end.step - self.start.step


@dataclasses.dataclass(frozen=True)
class Ended:
    """The end of a session.

    Attributes:
      key: the session's.
      kind: how it ended: a FlightEventKind.
      generation: its last.
      next_step: the step that was expected next.
      dropped: steps before it of which the recorder says that it dropped them.
    """

    key: Key
    kind: int
    generation: int
    next_step: int
    dropped: int


class _Run:
    """One segment on its way."""

    def __init__(self, segment: Segment, event: Any, cell: Cell | None) -> None:
        self.segment = segment
        self._next_step = segment.start.step
        self._history = event.history
        self._cell = cell
        self._numerics = event.numerics_digest
        self._series = event.series_count
        shape = (self._series, -1)
        self._state = np.frombuffer(event.state_values, _F4).reshape(shape)
        self._origin = (
            np.frombuffer(event.origin_values, _F4).reshape(shape) if event.origin_values else None
        )
        self._pending: list[Any] = []
        self._pending_steps = 0

    def take(self, steps: Any) -> None:
        """Takes steps; they are computed with more of them."""
        follows = (self.segment.generation, self._next_step)
        if (steps.generation, steps.first_step) != follows:
            # A recorder that wrote no state in between has a fault.
            self.segment.differs(f"goes on at step {steps.first_step} without a state")
        self._next_step = steps.first_step + steps.step_count
        if steps.resets:
            self.settle()
        self._pending.append(steps)
        self._pending_steps += steps.step_count
        if steps.resets or self._pending_steps >= _CHUNK:
            self.settle()

    def settle(self) -> None:
        """Computes what was taken, and compares it."""
        pending, self._pending, self._pending_steps = self._pending, [], 0
        if not pending:
            return
        if self._cell is None or self.segment.verdict != "agrees":
            self._history = pending[-1].history
            return
        count = sum(each.step_count for each in pending)
        first_step = pending[0].first_step
        frames = b"".join(each.frames for each in pending)
        shaped = np.frombuffer(frames, _F4).reshape(count, self._series, -1)
        recorded = np.frombuffer(b"".join(each.outputs for each in pending), _F4)
        resets = tuple(pending[0].resets) if len(pending) == 1 else ()
        outputs = self._loop(shaped, resets)
        self._compare(outputs, recorded.reshape(outputs.shape), first_step)
        chain = history.chain(self._history, frames, count, resets, self._series)
        self._history = chain[-history.SIZE :]
        if self._history != pending[-1].history:
            self.segment.differs(
                f"the history after step {self._next_step - 1} is not that of its frames"
            )

    def over(self) -> Segment:
        """Returns the segment, once nothing follows."""
        self.settle()
        is_known = self.segment.verdict == "agrees"
        state = digest(self._state.astype(_F4).tobytes()) if is_known else b""
        self.segment.end = Standing(self._next_step, self._history, state)
        return self.segment

    def _loop(self, frames: Any, resets: tuple[int, ...]) -> Any:
        """The plain loop, in which series begin anew before some frames."""
        assert self._cell is not None
        begins: dict[int, list[int]] = {}
        for index in resets:
            step, series = divmod(index, self._series)
            begins.setdefault(step, []).append(series)
        cuts = sorted({0, *begins, len(frames)})
        parts = []
        for start, end in itertools.pairwise(cuts):
            if start in begins:
                origin = self._origin
                if origin is None:
                    origin = self._cell.initial_state(self._series)
                self._state = self._state.copy()
                self._state[begins[start]] = origin[begins[start]]
            outputs, self._state = self._cell.steps(frames[start:end], self._state)
            parts.append(outputs)
        return np.concatenate(parts)

    def _compare(self, outputs: Any, recorded: Any, first_step: int) -> None:
        differs = outputs.view("<u4") != recorded.view("<u4")
        if differs.any():
            step, series, output = np.argwhere(differs)[0]
            steps = int(differs.any(axis=(1, 2)).sum())
            own = self._cell.numerics_digest if self._cell is not None else ""
            other = f" under numerics {self._numerics}, and here under {own}"
            self.segment.differs(
                f"from step {first_step + step}: output {output + 1} of series {series + 1} was "
                f"{recorded[step, series, output]:.9g} and is {outputs[step, series, output]:.9g}"
                f" ({steps} of these {len(outputs)} steps differ)"
                f"{other if self._numerics != own else ''}"
            )


def rerun(
    path: pathlib.Path, messages: Iterable[Said], cell_of: Callable[[str], Cell | None]
) -> Iterator[Segment | Ended]:
    """Runs one file again.

    Args:
      path: of the file, for the segments.
      messages: what it says.
      cell_of: gives the cell of a fingerprint; None where there is none, and its segments are
        not run.

    Yields:
      Each segment once it is over, and the ends of sessions.
    """
    runs: dict[Key, _Run] = {}
    for said in messages:
        key, message = said.key, said.message
        if not said.is_event:
            # Nothing but a damaged file has steps before there is a state.
            if key in runs:
                runs[key].take(message)
            continue
        if key in runs:
            yield runs.pop(key).over()
        if message.kind in ENDS:
            yield Ended(
                key, message.kind, message.generation, message.next_step, message.dropped_step_count
            )
        else:
            segment = _segment(key, path, message)
            cell = cell_of(message.model_fingerprint)
            if cell is None:
                segment.verdict = "not run"
                segment.problem = (
                    f"its model, {message.model} {message.model_version} with the fingerprint "
                    f"{message.model_fingerprint[:12]}, is in none of the bundles given"
                )
            runs[key] = _Run(segment, message, cell)
    for run in runs.values():
        yield run.over()


def digest(state: bytes) -> bytes:
    """Returns what stands for a state's bits."""
    return hashlib.blake2b(state, digest_size=16).digest()


def _segment(key: Key, path: pathlib.Path, event: Any) -> Segment:
    start = Standing(event.next_step, event.history, digest(event.state_values))
    return Segment(
        key=key,
        path=path,
        kind=event.kind,
        generation=event.generation,
        model=(event.model, event.model_version, event.model_fingerprint),
        start=start,
        end=start,
        dropped=event.dropped_step_count,
        previous=(event.previous_generation, event.previous_next_step),
    )
