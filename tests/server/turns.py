"""Turns without a network: sessions, requests for them, and what becomes of those."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from doubles.counting_cell import counting_outputs
from doubles.in_process_server import served
from doubles.interrupted_store import InterruptedStore
from doubles.manual_clock import ManualClock
from doubles.moody_cell import MoodyCell
from tickcell.model import Cell
from tickcell.server import record
from tickcell.server.catalogue import Catalogue, ServedModel
from tickcell.server.records import Records
from tickcell.server.sessions import Creation, Sessions
from tickcell.server.step import Step
from tickcell.server.turn import Turn

RETENTION_NS = 3600 * 10**9


class World:
    """A store, models, and a turn over both.

    Attributes:
      cell: of the model "counting", unless that was given another; one sensor wide.
    """

    def __init__(
        self,
        *more_models: ServedModel,
        cell: Cell | None = None,
        max_request_rows: int = 1000,
    ) -> None:
        self.cell = MoodyCell()
        self.model = served(cell or self.cell)
        self.store = InterruptedStore()
        self.clock = ManualClock()
        self.catalogue = Catalogue([self.model, *more_models])
        self.sessions = Sessions(
            Records(self.store),
            self.catalogue,
            self.clock,
            retention_ns=RETENTION_NS,
            max_sessions=1000,
            max_record_bytes=2**20,
        )
        self.turn = self.turn_over(self.catalogue, max_request_rows=max_request_rows)

    def turn_over(
        self, catalogue: Catalogue, *, max_request_rows: int = 1000, strict_numerics: bool = False
    ) -> Turn:
        """Returns a turn over the same store, as another server has one."""
        return Turn(
            Records(self.store),
            catalogue,
            self.clock,
            retention_ns=RETENTION_NS,
            max_request_rows=max_request_rows,
            strict_numerics=strict_numerics,
        )

    def create(
        self,
        session: str,
        series_count: int = 1,
        *,
        window: int = 8,
        model: ServedModel | None = None,
        idle_ttl_ns: int = 0,
        request_id: str = "",
    ) -> record.Record:
        wanted = Creation(
            session, request_id or str(uuid.uuid4()), series_count, window, idle_ttl_ns, {}
        )
        return self.sessions.create(model or self.model, wanted)

    def create_all(self, *sessions: str) -> None:
        for session in sessions:
            self.create(session)

    def request(
        self, session: str, first_step: int, frames: Sequence[float] | NDArray[np.float32]
    ) -> Step:
        """Returns a request for the steps of `[T]` or `[T, B, F]` frames."""
        generation = self.sessions.get(session).life.generation
        readings = np.array(frames, np.float32)
        return Step(session, generation, first_step, len(readings), readings.tobytes())

    def run(self, *requests: Step) -> None:
        self.turn.run(list(requests))

    def next_step(self, session: str) -> int:
        return self.sessions.get(session).next_step


def assert_counted(
    request: Step, first_step: int, frames: Sequence[float] | NDArray[np.float32]
) -> None:
    """Holds an answer to what a counting cell gives for the frames."""
    assert request.error is None, request.error
    expected = counting_outputs(np.array(frames, np.float32), first_step)
    got = np.frombuffer(request.outputs, "<f4")
    np.testing.assert_array_equal(got, expected.ravel())
