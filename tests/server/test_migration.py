"""Sessions that go on with another version of their model."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from tickcell.cli.comparison import loop
from tickcell.conformance.caller import Caller, UnaryPath, refused_for
from tickcell.model import Bundle, Head, Sensor, TensorSpec
from tickcell.server.catalogue import ServedModel
from tickcell.v1 import session_service_pb2 as pb

STEPS, CHUNK = 10_000, 50


class OtherCell(CountingCell):
    """Counts, and differs from a plain counting cell as it is told.

    Its output is that of the step, so often as it is wide.
    """

    def __init__(self, *, width: int = 1, **interface: Any) -> None:
        super().__init__()
        self._width = width
        heads = (Head("output", width),)
        self._interface = dataclasses.replace(self._interface, heads=heads, **interface)

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        stepped = np.frombuffer(super().step_rows(rows), "<f4").reshape(-1, 2)
        columns = [stepped[:, :1]] * self._width + [stepped[:, 1:]]
        return np.concatenate(columns, axis=1).tobytes()


MODELS = [
    served(cell, version=version)
    for version, cell in {
        "1": CountingCell(),
        "2": OtherCell(),
        "3": OtherCell(width=2),
        "4": OtherCell(state_tensors=(TensorSpec("other", (1,)),)),
        "5": OtherCell(sensors=(Sensor("another", "1", -500.0, 500.0),)),
    }.items()
]


@pytest.fixture
def caller() -> Iterator[Caller]:
    with InProcessServer(MODELS) as server, Caller(server.address) as caller:
        yield caller


def step(caller: Caller, session: pb.Session, first: int, count: int = 1) -> list[float]:
    """Gives a session some frames of zeros; returns the outputs."""
    request = pb.StepSessionRequest(
        session=session.id,
        generation=session.generation,
        first_step=first,
        step_count=count,
        frames=[0.0] * count * session.series_count,
    )
    with UnaryPath(caller) as path:
        return list(path.send(request.SerializeToString()).outputs)


def begun(caller: Caller, version: str = "1", steps: int = 3, **fields: Any) -> pb.Session:
    """Returns a session of a version that has had some steps."""
    session = caller.create(model_version=version, **fields)
    step(caller, session, 0, steps)
    return caller.get(session.id)


class TestKeptState:
    def test_steps_history_and_window_go_on(self, caller: Caller) -> None:
        before = begun(caller, labels={"a": "b"})
        after = caller.migrate(before.id, before.generation, model_version="2")
        assert (after.model_version, after.numerics_start_step) == ("2", 3)
        assert after.generation != before.generation
        for field in ("next_step", "history", "labels", "window_step_count", "series_count"):
            assert getattr(after, field) == getattr(before, field)
        # What was answered by the version before is answered as it was.
        assert step(caller, after, 1, 4) == [1000.0, 2000.0, 3000.0, 4000.0]
        with refused_for("SESSION_RESTARTED") as metadata:
            step(caller, before, 3)
        assert int(metadata["generation"]) == after.generation

    def test_same_request_returns_it_while_its_generation_lives(self, caller: Caller) -> None:
        session, request_id = begun(caller), str(uuid.uuid4())
        migrating = {"model_version": "2", "request_id": request_id}
        after = caller.migrate(session.id, session.generation, **migrating)
        step(caller, after, 3)
        now = caller.get(session.id)
        assert caller.migrate(session.id, session.generation, **migrating) == now
        again = caller.reset(session.id, now.generation, str(uuid.uuid4()))
        with refused_for("SESSION_RESTARTED"):
            caller.migrate(session.id, session.generation, **migrating)
        assert caller.get(session.id) == again

    def test_window_is_emptied_where_the_outputs_have_another_width(self, caller: Caller) -> None:
        before = begun(caller)
        after = caller.migrate(before.id, before.generation, model_version="3")
        assert (after.output_count, after.history) == (2, before.history)
        with refused_for("STEP_STALE"):
            step(caller, after, 2)
        assert step(caller, after, 3, 2) == [3000.0, 3000.0, 4000.0, 4000.0]

    def test_claim_still_fences_and_origin_stays(self, caller: Caller) -> None:
        source = begun(caller)
        fork = caller.fork(source.id, source.generation)
        claimed = caller.claim(fork.id, fork.generation)
        step(caller, claimed, 3, 2)
        after = caller.migrate(fork.id, claimed.generation, model_version="2")
        assert after.origin_step == 3
        request = pb.StepSessionRequest(session=fork.id, step_count=1, frames=[0.0])
        with UnaryPath(caller) as path, refused_for("SESSION_CLAIMED"):
            path.send(request.SerializeToString())
        anew = caller.reset(fork.id, after.generation, str(uuid.uuid4()))
        assert step(caller, anew, 3) == [3000.0]


class TestBurnIn:
    def burnt_in(self, caller: Caller, session: pb.Session) -> dict[str, Any]:
        """Returns the fields that name a session whose state is taken."""
        return {"state_session": session.id, "state_generation": session.generation}

    @pytest.mark.parametrize("steps", [0, 2])
    def test_steps_go_on_with_the_other_state(self, caller: Caller, steps: int) -> None:
        before = begun(caller, steps=5)
        other = caller.create(model_version="4")
        if steps:
            step(caller, other, 0, steps)
        shown = caller.get(other.id)
        fields = {**self.burnt_in(caller, other), "state_step": steps, "model_version": "4"}
        request_id = str(uuid.uuid4())
        after = caller.migrate(before.id, before.generation, request_id=request_id, **fields)
        assert (after.next_step, after.history) == (5, before.history)
        assert step(caller, after, 4, 3) == [4000.0, 1000.0 * steps, 1000.0 * (steps + 1)]
        # The other is as it was, and need not be there for the request to be sent again.
        assert caller.get(other.id) == shown
        caller.delete(other.id, other.generation)
        again = caller.migrate(before.id, before.generation, request_id=request_id, **fields)
        assert again.generation == after.generation

    def test_origin_of_other_tensors_becomes_the_versions_own_beginning(
        self, caller: Caller
    ) -> None:
        source = begun(caller)
        fork = caller.fork(source.id, source.generation)
        other = begun(caller, "4", steps=2)
        after = caller.migrate(
            fork.id, fork.generation, model_version="4", **self.burnt_in(caller, other)
        )
        assert (after.origin_step, after.next_step) == (0, 3)
        anew = caller.reset(fork.id, after.generation, str(uuid.uuid4()))
        assert (anew.next_step, step(caller, anew, 0)) == (0, [0.0])

    @pytest.mark.parametrize(
        ("step_named", "reason"), [(1, "STEP_STALE"), (3, "STEP_GAP"), (-1, "ARGUMENT_INVALID")]
    )
    def test_other_session_that_is_at_another_step_is_refused(
        self, caller: Caller, step_named: int, reason: str
    ) -> None:
        session, other = begun(caller), begun(caller, "4", steps=2)
        fields = {**self.burnt_in(caller, other), "state_step": step_named}
        with refused_for(reason):
            caller.migrate(session.id, session.generation, model_version="4", **fields)
        assert caller.get(session.id) == session

    def test_other_session_that_does_not_fit_is_refused(self, caller: Caller) -> None:
        session = begun(caller)
        for other in (begun(caller, "2"), begun(caller, "4", series_count=2)):
            with refused_for("MIGRATION_REFUSED"):
                caller.migrate(
                    session.id,
                    session.generation,
                    model_version="4",
                    **self.burnt_in(caller, other),
                )
        with refused_for("SESSION_UNKNOWN"):
            caller.migrate(
                session.id,
                session.generation,
                model_version="4",
                state_session="nobody",
                state_generation=1,
            )
        assert caller.get(session.id) == session


@pytest.mark.parametrize(
    ("version", "reason", "got"),
    [
        ("4", "MIGRATION_REFUSED", "other [1]"),
        ("5", "MIGRATION_REFUSED", "another"),
        ("1", "ARGUMENT_INVALID", "1"),
    ],
)
def test_version_that_does_not_fit_is_refused_with_what(
    caller: Caller, version: str, reason: str, got: str
) -> None:
    session = begun(caller)
    with refused_for(reason) as metadata:
        caller.migrate(session.id, session.generation, model_version=version)
    assert metadata["got"] == got
    assert caller.get(session.id) == session


def test_version_that_is_not_served_is_unknown(caller: Caller) -> None:
    session = begun(caller)
    with refused_for("MODEL_UNKNOWN"):
        caller.migrate(session.id, session.generation, model_version="9")


@contextlib.contextmanager
def two_versions() -> Iterator[tuple[Caller, Bundle]]:
    """A server of one real cell under two versions."""
    bundle = Bundle.load()
    cell = bundle.cell()
    models = [
        ServedModel.of(dataclasses.replace(bundle.card, version=version), cell, version * 64)
        for version in ("1", "2")
    ]
    with InProcessServer(models) as server, Caller(server.address) as caller:
        yield caller, bundle


def test_migrated_sessions_go_on_as_the_loop() -> None:
    with two_versions() as (caller, bundle):
        frames = np.resize(bundle.golden.frames, (STEPS, bundle.golden.frames.shape[1]))
        outputs = loop(bundle.cell(), frames)
        session = caller.create(model_version="1", window_step_count=CHUNK)
        with UnaryPath(caller) as path:
            for first in range(0, STEPS, CHUNK):
                if first % (10 * CHUNK) == 0:
                    version = "1" if session.model_version == "2" else "2"
                    session = caller.migrate(session.id, session.generation, model_version=version)
                given = frames[first : first + CHUNK]
                request = pb.StepSessionRequest(
                    session=session.id,
                    generation=session.generation,
                    first_step=first,
                    step_count=CHUNK,
                    frames=given.ravel(),
                )
                got = np.array(path.send(request.SerializeToString()).outputs, np.float32)
                assert got.tobytes() == outputs[first : first + CHUNK].tobytes()
