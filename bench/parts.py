"""Store, cell and observer, each alone, over and over: what they cost when warm.

python -m bench.parts
"""

from __future__ import annotations

import functools
import tempfile
import time
import timeit
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np

from tickcell.model import Bundle
from tickcell.server import record
from tickcell.server.caller import ANYBODY
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.clock import Moment
from tickcell.server.computing import Begun
from tickcell.server.config import Config
from tickcell.server.entries import Entry
from tickcell.server.life_requests import Create, Creation
from tickcell.server.observer import Observer
from tickcell.server.policy import Policy
from tickcell.server.record import Record
from tickcell.server.rounds import Answers, Stepped
from tickcell.server.rules import StepRequest
from tickcell.server.store import Change, SqliteStore
from tickcell.server.store.contract import APPLIED, Key
from tickcell.wire import history

_ROW_COUNTS = (1, 8, 64, 256)
_REPEATS = 9
_REPEAT_S = 0.1
_COMMITS = 10_000


class Part(NamedTuple):
    """What one part of a tick takes, in microseconds."""

    name: str
    time_us: float


def measure(bundle: Bundle) -> list[Part]:
    """Measures the parts, the median of several repeats each."""
    return [*_store(bundle), *_cell(bundle), _observer(bundle)]


def _full(bundle: Bundle) -> tuple[Record, ServedModel]:
    """Returns the record of a session whose window is full, and its model."""
    policy = Policy.of(Config(durability="none"), Catalogue([ServedModel.load(bundle)]))
    (model,) = policy.catalogue
    now, key = Moment(0, 0), ANYBODY.key("bench")
    wanted = Creation("bench", "bench", 1, 32, 0, {})
    full = Create(key, model, wanted).change(None, policy, now)
    window = full.life.window
    full = record.advance(
        full,
        state=full.state,
        histories=bytes(window * history.SIZE),
        outputs=bytes(window * full.life.output_size),
        numerics=model.numerics,
        now=now,
    )
    return full, model


def _store(bundle: Bundle) -> list[Part]:
    """Measures on the record of a session whose window is full."""
    key, (full, _) = ANYBODY.key("bench"), _full(bundle)
    encoded = [record.encode(key, full._replace(next_step=step)) for step in range(2)]
    with tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory:
        store = SqliteStore.open(directory)
        store.commit([Change(key, None, encoded[0], was_live=False)])
        times_ns: list[int] = []
        while len(times_ns) < _COMMITS:
            change = Change(key, encoded[0], encoded[1])
            start_ns = time.perf_counter_ns()
            (verdict,) = store.commit([change])
            took_ns = time.perf_counter_ns() - start_ns
            # While the log is brought into the database, some are refused at once.
            if verdict == APPLIED:
                times_ns.append(took_ns)
                encoded.reverse()
        parts = [
            Part("store: load", _time_us(lambda: store.load([key]))),
            Part("store: commit", float(np.median(times_ns)) / 1e3),
        ]
        store.close()
    return parts


def _cell(bundle: Bundle) -> list[Part]:
    cell = bundle.cell()
    frames = np.resize(bundle.golden.frames, (max(_ROW_COUNTS), cell.interface.sensor_count))
    table = np.concatenate((frames, cell.initial_state(len(frames))), axis=1).astype("<f4")
    parts = []
    for count in _ROW_COUNTS:
        rows = table[:count].tobytes()
        name = f"cell: {count} row" + ("s" if count > 1 else "")
        parts.append(Part(name, _time_us(functools.partial(cell.step_rows, rows))))
    return parts


def _observer(bundle: Bundle) -> Part:
    """Measures all that a tick which has a round to itself has the driver tell the observer."""
    observer, clock_ns = Observer(), time.perf_counter_ns
    current, model = _full(bundle)
    now, key = Moment(0, 0), ANYBODY.key("bench")
    request = StepRequest(key, current.life.generation, 0, 1, b"")
    begun = [Begun(request, b"", current, False, now, model, 0, 0, b"")]
    answer = Stepped(current.life, 0, b"", b"", 0)
    answers: Answers = [(key, answer)]
    stepped = [(Entry(request), answer)]

    def no_entry(_: Key) -> NoReturn:
        raise AssertionError("a step's entry is of no interest")

    def tick() -> None:
        # Of its entry.
        clock_ns()
        start_ns = clock_ns()
        observer.computed(model, clock_ns() - start_ns)
        start_ns = clock_ns()
        observer.committed(clock_ns() - start_ns)
        observer.round_ended(begun, answers, (), no_entry)
        observer.stepped(stepped, clock_ns())

    return Part("observer", _time_us(tick))


def _time_us(run: Callable[[], object]) -> float:
    timer = timeit.Timer(run)
    count, took = timer.autorange()
    number = max(1, round(count * _REPEAT_S / took))
    return 1e6 * float(np.median(timer.repeat(_REPEATS, number))) / number


if __name__ == "__main__":
    for part in measure(Bundle.load()):
        print(f"{part.name:14}{part.time_us:10.1f} us")
