"""Every reason, provoked: its metadata is what its comment in error_reason.proto says."""

from __future__ import annotations

import collections
import contextlib
import pathlib
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.interrupted_store import InterruptedStore
from doubles.known_callers import KnownCallers
from doubles.manual_clock import ManualClock
from doubles.moody_cell import GIVES_NAN, RAISES, MoodyCell
from tickcell.conformance import documented
from tickcell.conformance.caller import Caller, Refused, StreamPath, UnaryPath
from tickcell.server import store
from tickcell.server.config import Limits
from tickcell.server.observer import Observer
from tickcell.v1 import model_service_pb2
from tickcell.v1 import session_service_pb2 as pb

LIMITS = Limits(
    max_window=16,
    max_record_bytes=2000,
    max_message_bytes=600,
    max_sessions=40,
    max_streams=1,
)


class OtherCell(MoodyCell):
    """Computes other last bits."""

    @property
    def numerics_digest(self) -> str:
        return "00000000c0117e58"


class Scene:
    """Servers of one store, and a session in the midst of its life.

    Attributes:
      records: the store.
      clock: of all servers.
      observers: theirs.
      caller: of a server that serves two models.
      strict: of one that serves the session's model, as it is computed elsewhere.
      without: of one that does not serve the session's model.
    """

    def __init__(
        self,
        records: InterruptedStore,
        clock: ManualClock,
        observers: list[Observer],
        caller: Caller,
        strict: Caller,
        without: Caller,
    ) -> None:
        self.records, self.clock, self.observers = records, clock, observers
        self.caller, self.strict, self.without = caller, strict, without
        self.session = self.create(window_step_count=2)
        for _ in range(4):
            self.step()

    def create(self, **fields: Any) -> pb.Session:
        return self.caller.create(**{"model": "counting", **fields})

    def step(self, reading: float = 1.0, caller: Caller | None = None, **fields: Any) -> None:
        """Sends a step to the session, or a request that differs from one in some fields."""
        request = pb.StepSessionRequest(
            **{"session": self.session.id, "step_count": 1, "frames": [reading], **fields}
        )
        with UnaryPath(caller or self.caller) as path:
            path.send(request.SerializeToString())

    def again(self, first_step: int, reading: float = 1.0) -> None:
        """Sends a step under an index."""
        self.step(reading, generation=self.session.generation, first_step=first_step)

    def preview(self, *readings: float, **fields: Any) -> None:
        """Asks what branches of a step each would give."""
        given = {"step": 4, "branch_count": len(readings), "step_count": 1, **fields}
        self.caller.preview(self.session.id, self.session.generation, frames=readings, **given)

    def fork(self, step: int) -> None:
        self.caller.fork(self.session.id, self.session.generation, step=step)

    def bring(self, **fields: Any) -> None:
        """Creates a session from an export."""
        self.caller.create(export=pb.SessionExport(**{"format_version": 1, **fields}))

    def replace(self, change: Callable[[bytes], bytes]) -> None:
        """Changes the session's record in the store."""
        key = store.Key("", self.session.id)
        (encoded,) = self.records.load([key])
        assert encoded is not None
        (verdict,) = self.records.commit([store.Change(key, encoded, change(encoded))])
        assert verdict == store.Applied()

    def in_trouble(self, trouble: store.Verdict | store.StoreError) -> None:
        """Sends a step while the store is in trouble."""
        self.records.trouble = trouble
        self.step()


@contextlib.contextmanager
def new_scene() -> Iterator[Scene]:
    """Begins anew for each refusal, since some end the session or the store."""
    clock = ManualClock()
    records = InterruptedStore(clock)
    shared: dict[str, Any] = {"records": records, "limits": LIMITS}
    other = served(CountingCell(), "other")
    with (
        InProcessServer([served(MoodyCell()), other], **shared) as server,
        InProcessServer([served(OtherCell())], numerics="strict", **shared) as strict,
        InProcessServer([other], **shared) as without,
        Caller(server.address) as caller,
        Caller(strict.address) as strict_caller,
        Caller(without.address) as without_caller,
    ):
        observers = [each.observer for each in (server, strict, without)]
        yield Scene(records, clock, observers, caller, strict_caller, without_caller)


def damaged(encoded: bytes) -> bytes:
    """Returns a record with a bit flipped."""
    return encoded[:-1] + bytes([encoded[-1] ^ 1])


def of_another_version(encoded: bytes) -> bytes:
    """Returns a sound record of something else."""
    body = bytes(4) + encoded[4:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def read_damaged(scene: Scene) -> None:
    scene.replace(damaged)
    scene.caller.get(scene.session.id)


def read_newer(scene: Scene) -> None:
    def newer(encoded: bytes) -> bytes:
        body = encoded[:2] + struct.pack("<H", 7) + encoded[4:-4]
        key = b"\0" + scene.session.id.encode()
        return body + struct.pack("<I", zlib.crc32(body, zlib.crc32(key)))

    scene.replace(newer)
    scene.caller.get(scene.session.id)


def read_another_version(scene: Scene) -> None:
    scene.replace(of_another_version)
    scene.caller.get(scene.session.id)


def expire(scene: Scene) -> None:
    scene.clock.advance(24 * 3600.0)
    scene.step()


def delete(scene: Scene) -> None:
    scene.caller.delete(scene.session.id, scene.session.generation)
    scene.step()


def move(scene: Scene) -> None:
    generation = scene.session.generation
    request_id = "6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31"
    scene.caller.export(scene.session.id, generation, end=True, request_id=request_id)
    scene.step()


def migrate_to_other_sensors(scene: Scene) -> None:
    models = [served(CountingCell()), served(CountingCell(2), version="2")]
    with InProcessServer(models) as server, Caller(server.address) as caller:
        scene.observers.append(server.observer)
        session = caller.create(model_version="1")
        caller.migrate(session.id, session.generation, model_version="2")


def import_another_model(scene: Scene) -> None:
    exported = scene.caller.export(scene.session.id, scene.session.generation)
    content = pb.SessionContent.FromString(exported.content)
    content.model_fingerprint = "0" * 64
    scene.bring(content=content.SerializeToString())


def begin_with_a_wrong_state(scene: Scene) -> None:
    scene.create(initial_state_tensors=[pb.StateTensor(name="nothing")])


def claim(scene: Scene) -> None:
    scene.caller.claim(scene.session.id, scene.session.generation)
    scene.again(4)


def claim_and_step_without_a_generation(scene: Scene) -> None:
    scene.caller.claim(scene.session.id, scene.session.generation)
    scene.step()


def fill_store(scene: Scene) -> None:
    scene.records.is_full = True
    scene.step()


def create_without_end(scene: Scene) -> None:
    for _ in range(LIMITS.max_sessions):
        scene.create()


def open_two_streams(scene: Scene) -> None:
    with StreamPath(scene.caller) as first:
        with pytest.raises(Refused):
            first.send(b"\xff")
        with StreamPath(scene.caller) as second:
            second.receive()


def fail_in_store(scene: Scene) -> None:
    def fail() -> None:
        raise ArithmeticError("upset by a commit")

    scene.records.interruptions.append(fail)
    scene.create()


def list_from_an_upset_store(scene: Scene) -> None:
    scene.records.is_upset = True
    scene.caller.call(scene.caller.sessions.ListSessions, pb.ListSessionsRequest())


def drain(scene: Scene) -> None:
    with (
        InProcessServer([served(CountingCell())]) as server,
        Caller(server.address) as caller,
        StreamPath(caller) as stream,
    ):
        scene.observers.append(server.observer)
        with pytest.raises(Refused):
            stream.send(b"\xff")
        server.stop()
        stream.receive()


def load_broken_model(scene: Scene) -> None:
    with tempfile.TemporaryDirectory() as directory:
        models = pathlib.Path(directory)
        (models / "drive" / "1").mkdir(parents=True)
        with (
            InProcessServer([], repository=models, control="explicit") as server,
            Caller(server.address) as caller,
        ):
            scene.observers.append(server.observer)
            load_model(caller, "drive")


def load_model(caller: Caller, name: str) -> None:
    caller.call(caller.models.LoadModel, model_service_pb2.LoadModelRequest(name=name))


def send_garbage(scene: Scene) -> None:
    with UnaryPath(scene.caller) as path:
        path.send(b"\xff")


@contextlib.contextmanager
def known_caller(scene: Scene, callers: str, *, authorization: str = "") -> Iterator[Caller]:
    """Gives a caller whom a server knows as robot-7, or another authorization."""
    with tempfile.TemporaryDirectory() as directory:
        known = KnownCallers(pathlib.Path(directory), callers)
        shown = authorization or f"Bearer {known.draw('robot-7')}"
        with (
            InProcessServer([served(CountingCell())], **known.options) as server,
            Caller(server.address, authorization=shown) as caller,
        ):
            scene.observers.append(server.observer)
            yield caller


def call_as_nobody(scene: Scene) -> None:
    with known_caller(scene, "", authorization="Bearer tickcell_nothing") as caller:
        caller.create()


def look_at_another_owner(scene: Scene) -> None:
    with known_caller(scene, "") as caller:
        request = pb.GetSessionRequest(session="a", owner="another")
        caller.call(caller.sessions.GetSession, request)


def create_one_too_many(scene: Scene) -> None:
    with known_caller(scene, "limits.max_sessions = 0") as caller:
        caller.create()


def step_too_often(scene: Scene) -> None:
    with known_caller(scene, "limits.max_ticks_per_s = 0.01") as caller, UnaryPath(caller) as path:
        step = pb.StepSessionRequest(session=caller.create().id, step_count=1, frames=[1.0])
        path.send(step.SerializeToString())
        path.send(step.SerializeToString())


PROVOCATIONS: list[tuple[str, Callable[[Scene], object]]] = [
    ("MALFORMED", send_garbage),
    ("ARGUMENT_INVALID", lambda scene: scene.again(-1)),
    ("ARGUMENT_INVALID", lambda scene: scene.step(first_step=4)),
    ("ARGUMENT_INVALID", lambda scene: scene.create(window_step_count=17)),
    ("ARGUMENT_INVALID", lambda scene: scene.create(series_count=200)),
    ("ARGUMENT_INVALID", lambda scene: scene.create(model="")),
    ("ARGUMENT_INVALID", lambda scene: scene.step(expected_history=bytes(7))),
    ("ARGUMENT_INVALID", lambda scene: scene.create(series_count=150, window_step_count=1)),
    ("ARGUMENT_INVALID", lambda scene: scene.step(resets=[1])),
    ("FRAME_SHAPE", lambda scene: scene.step(step_count=3)),
    ("FRAME_SHAPE", lambda scene: scene.step(frames=[1.0, 2.0])),
    ("FRAME_SHAPE", lambda scene: scene.preview(1.0, 2.0, step_count=3)),
    ("FRAME_SHAPE", lambda scene: scene.preview(1.0, 2.0, branch_count=3)),
    ("FRAME_NOT_FINITE", lambda scene: scene.preview(1.0, float("nan"))),
    ("FRAME_OUT_OF_RANGE", lambda scene: scene.preview(1.0, 501.0)),
    ("ARGUMENT_INVALID", lambda scene: scene.preview(1.0, branch_count=-1)),
    ("STEP_GAP", lambda scene: scene.preview(1.0, step=3)),
    ("STEP_GAP", lambda scene: scene.fork(5)),
    ("STEP_STALE", lambda scene: scene.fork(3)),
    ("ARGUMENT_INVALID", lambda scene: scene.fork(-1)),
    ("FRAME_NOT_FINITE", lambda scene: scene.step(float("nan"))),
    ("FRAME_OUT_OF_RANGE", lambda scene: scene.step(501.0)),
    ("SESSION_UNKNOWN", lambda scene: scene.step(session="nobody")),
    ("SESSION_EXPIRED", expire),
    ("SESSION_DELETED", delete),
    ("SESSION_MOVED", move),
    ("MIGRATION_REFUSED", migrate_to_other_sensors),
    ("EXPORT_NEWER", lambda scene: scene.bring(format_version=2)),
    ("EXPORT_REFUSED", lambda scene: scene.bring(content=b"\xff")),
    ("EXPORT_REFUSED", import_another_model),
    ("ARGUMENT_INVALID", begin_with_a_wrong_state),
    ("SESSION_EXISTS", lambda scene: scene.create(session=scene.session.id)),
    ("SESSION_RESTARTED", lambda scene: scene.step(generation=1, first_step=4)),
    ("SESSION_CLAIMED", claim),
    ("SESSION_CLAIMED", claim_and_step_without_a_generation),
    ("STEP_STALE", lambda scene: scene.again(0)),
    ("STEP_GAP", lambda scene: scene.again(5)),
    ("STEP_CONFLICT", lambda scene: scene.again(3, 2.0)),
    ("STEP_CONFLICT", lambda scene: scene.step(expected_history=bytes(8))),
    ("MODEL_UNKNOWN", lambda scene: scene.create(model="nothing")),
    ("MODEL_NOT_SERVED", lambda scene: scene.step(caller=scene.without)),
    ("MODEL_BROKEN", load_broken_model),
    ("MODELS_UNCONTROLLED", lambda scene: load_model(scene.caller, "counting")),
    ("NUMERICS_CHANGED", lambda scene: scene.step(caller=scene.strict)),
    ("OUTPUT_NOT_FINITE", lambda scene: scene.step(GIVES_NAN)),
    ("STORE_FULL", fill_store),
    ("SESSIONS_FULL", create_without_end),
    ("STREAMS_FULL", open_two_streams),
    ("DRAINING", drain),
    ("RECORD_DAMAGED", read_damaged),
    ("RECORD_DAMAGED", read_another_version),
    ("RECORD_NEWER", read_newer),
    ("INTERNAL", lambda scene: scene.step(RAISES)),
    ("INTERNAL", list_from_an_upset_store),
    ("STORE_BUSY", lambda scene: scene.in_trouble(store.Contended())),
    ("STORE_AWAY", lambda scene: scene.in_trouble(store.StoreAwayError("store: is away."))),
    ("STORE_DAMAGED", lambda scene: scene.in_trouble(store.StoreDamagedError("store: is torn."))),
    ("CALLER_UNKNOWN", call_as_nobody),
    ("OPERATORS_ONLY", look_at_another_owner),
    ("OWNER_SESSIONS_FULL", create_one_too_many),
    ("OWNER_RATE_EXCEEDED", step_too_often),
    ("OUTCOME_UNKNOWN", fail_in_store),
    ("OUTCOME_UNKNOWN", lambda scene: scene.in_trouble(store.Unknown("the disk failed"))),
]


@pytest.mark.lengthy
def test_every_reason_is_counted_and_carries_the_metadata_of_its_comment() -> None:
    seen = collections.defaultdict[str, list[set[str]]](list)
    for reason, provoke in PROVOCATIONS:
        with new_scene() as scene, pytest.raises(Refused) as caught:
            provoke(scene)
        assert caught.value.reason == reason, caught.value
        assert sum(each.refused_counts[reason] for each in scene.observers) == 1, caught.value
        seen[reason].append({*caught.value.metadata} - documented.BESIDE)
    always = {reason: set.intersection(*names) for reason, names in seen.items()}
    ever = {reason: set.union(*names) for reason, names in seen.items()}
    promised = documented.metadata()
    assert always == {reason: set(names.always) for reason, names in promised.items()}
    assert ever == {reason: names.always | names.at_times for reason, names in promised.items()}
