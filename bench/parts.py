"""The store alone and the cell alone, each over and over: what they cost when warm."""

from __future__ import annotations

import functools
import tempfile
import timeit
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tickcell.model import Bundle
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.clock import SteadyClock
from tickcell.server.records import Records
from tickcell.server.sessions import Creation, Sessions
from tickcell.server.step import Step
from tickcell.server.store import Change, Key, SqliteStore
from tickcell.server.turn import Turn

_ROW_COUNTS = (1, 8, 64, 256)
_REPEATS = 9
_REPEAT_S = 0.1


class Part(NamedTuple):
    """What one part of a tick takes, in microseconds."""

    name: str
    time_us: float


def measure(bundle: Bundle) -> list[Part]:
    """Measures the parts, the median of several repeats each."""
    return [*_store(bundle), *_cell(bundle)]


def _store(bundle: Bundle) -> list[Part]:
    """Measures on the record of a session whose window is full."""
    model = ServedModel.load(bundle)
    catalogue, clock = Catalogue([model]), SteadyClock()
    with tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory:
        store = SqliteStore.open(directory)
        records = Records(store)
        sessions = Sessions(
            records, catalogue, clock, retention_ns=0, max_sessions=1, max_record_bytes=2**20
        )
        turn = Turn(
            records, catalogue, clock, retention_ns=0, max_request_rows=1, strict_numerics=False
        )
        life = sessions.create(model, Creation("bench", "bench", 1, 32, 0, {})).life
        for step in range(life.window):
            frame = bundle.golden.frames[step].astype("<f4").tobytes()
            turn.run_alone(Step("bench", life.generation, step, 1, frame))
        key = Key("", "bench")
        (encoded,) = store.load([key])
        parts = [
            Part("store: load", _time_us(lambda: store.load([key]))),
            Part("store: commit", _time_us(lambda: store.commit([Change(key, encoded, encoded)]))),
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


def _time_us(run: Callable[[], object]) -> float:
    timer = timeit.Timer(run)
    count, took = timer.autorange()
    number = max(1, round(count * _REPEAT_S / took))
    return 1e6 * float(np.median(timer.repeat(_REPEATS, number))) / number
