"""Every reason, provoked over this protocol: its code and text are those of docs/triton.md."""

from __future__ import annotations

import contextlib
import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.interrupted_store import InterruptedStore
from doubles.known_callers import KnownCallers
from doubles.manual_clock import ManualClock
from doubles.moody_cell import GIVES_NAN, RAISES, MoodyCell
from tickcell.conformance.caller import Caller
from tickcell.conformance.peer import Peer, PeerStream, Refused, request
from tickcell.server import errors, store
from tickcell.server.config import Limits
from tickcell.server.oip.identity import Sequence

LIFE, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
SESSION = Sequence("counting", 7).session("")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "triton.md"
ROW = re.compile(r"^\| ([A-Z_]+)(: [^|]+)? \| (\w+) \| (.+) \|$", re.M)


class OtherCell(MoodyCell):
    """Computes other last bits."""

    @property
    def numerics_digest(self) -> str:
        return "00000000c0117e58"


class Scene:
    """Servers of one store, and sequence 7 after two steps of its life.

    Attributes:
      records: the store.
      clock: of all servers.
      peer: of a server that serves two models.
      strict: of one that serves the sequence's model, as it is computed elsewhere.
      without: of one that serves another version of it.
    """

    def __init__(
        self, records: InterruptedStore, clock: ManualClock, *peers: Peer, native: Caller
    ) -> None:
        self.records, self.clock, self.native = records, clock, native
        self.peer, self.strict, self.without = peers
        self.peer.infer(7, start=True, life=LIFE, step=0)
        self.peer.infer(7, life=LIFE, step=1)

    def step(self, *readings: float, step: int = 2, **options: Any) -> None:
        """Sends a step of the life."""
        self.peer.infer(7, readings or (1.0,), life=LIFE, step=step, **options)

    def replace(self, change: Callable[[bytes], bytes]) -> None:
        """Changes the sequence's record in the store, and steps on."""
        key = store.Key("", SESSION)
        (encoded,) = self.records.load([key])
        assert encoded is not None
        assert self.records.commit([store.Change(key, encoded, change(encoded))]) == [
            store.Applied()
        ]
        self.step()

    def in_trouble(self, trouble: store.Verdict | store.StoreError) -> None:
        """Sends a step while the store is in trouble."""
        self.records.trouble = trouble
        self.step()


@contextlib.contextmanager
def new_scene() -> Iterator[Scene]:
    """Begins anew for each refusal, since some end the sequence or the store."""
    clock = ManualClock()
    records = InterruptedStore(clock)
    shared: dict[str, Any] = {
        "records": records,
        "limits": Limits(max_sessions=20, max_streams=1, max_window=16),
    }
    with (
        InProcessServer([served(MoodyCell()), served(CountingCell(), "other")], **shared) as both,
        InProcessServer([served(OtherCell())], numerics="strict", **shared) as strict,
        InProcessServer([served(CountingCell(), version="2")], **shared) as without,
        Peer(both.address) as peer,
        Peer(strict.address) as strict_peer,
        Peer(without.address) as without_peer,
        Caller(both.address) as native,
    ):
        yield Scene(records, clock, peer, strict_peer, without_peer, native=native)


def expire(scene: Scene) -> None:
    scene.clock.advance(601.0)
    scene.step()


def end(scene: Scene) -> None:
    scene.step(end=True)
    scene.step(step=3)


def replace_life(scene: Scene) -> None:
    scene.peer.infer(7, start=True, life=OTHER, step=0)
    scene.step()


def move_natively(scene: Scene) -> None:
    generation = scene.native.get(SESSION).generation
    scene.native.export(SESSION, generation, end=True, request_id=OTHER)
    scene.step()


def claim_natively(scene: Scene) -> None:
    scene.native.claim(SESSION, scene.native.get(SESSION).generation)
    # Nor does who names no life go on with it, on whatever server.
    for _ in range(2):
        with pytest.raises(Refused, match="SESSION_CLAIMED"):
            scene.peer.infer(7)
        with pytest.raises(Refused, match="SESSION_CLAIMED"):
            scene.strict.infer(7)
    scene.step()


def fall_behind(scene: Scene) -> None:
    for step in range(2, 20):
        scene.step(step=step)
    scene.step(step=2)


def damaged(encoded: bytes) -> bytes:
    return encoded[:-1] + bytes([encoded[-1] ^ 1])


def newer(encoded: bytes) -> bytes:
    body = encoded[:2] + struct.pack("<H", 7) + encoded[4:-4]
    return body + struct.pack("<I", zlib.crc32(body, zlib.crc32(f"\0{SESSION}".encode())))


def fill_store(scene: Scene) -> None:
    scene.records.is_full = True
    scene.step()


def start_without_end(scene: Scene) -> None:
    for sequence in range(8, 30):
        scene.peer.infer(sequence, start=True)


def open_two_streams(scene: Scene) -> None:
    with PeerStream(scene.peer) as first:
        first.infer(8, start=True)
        with PeerStream(scene.peer) as second:
            second.receive()


def drain(_: Scene) -> None:
    with (
        InProcessServer([served(CountingCell())]) as server,
        Peer(server.address) as peer,
        PeerStream(peer) as stream,
    ):
        stream.infer(7, start=True)
        server.stop()
        stream.receive()


def load_broken_model(_: Scene) -> None:
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        (models / "drive" / "1").mkdir(parents=True)
        with (
            InProcessServer([], repository=models, control="explicit") as server,
            Peer(server.address) as peer,
        ):
            peer.ask("RepositoryModelLoad", model_name="drive")


@contextlib.contextmanager
def known_caller(rights: str) -> Iterator[Peer]:
    """A peer that a server knows by its token, and what its callers file says."""
    with tempfile.TemporaryDirectory(prefix="tickcell-") as directory:
        known = KnownCallers(Path(directory), rights)
        token = known.draw("me")
        with (
            InProcessServer([served(CountingCell())], **known.options) as server,
            Caller(server.address, authorization=f"Bearer {token}") as caller,
        ):
            yield Peer(channel=caller.channel)


def call_as_nobody(_: Scene) -> None:
    with tempfile.TemporaryDirectory(prefix="tickcell-") as directory:
        options = KnownCallers(Path(directory)).options
        with (
            InProcessServer([served(CountingCell())], **options) as server,
            Peer(server.address) as peer,
        ):
            peer.infer(7, start=True)


def load_a_model(_: Scene) -> None:
    with known_caller("") as peer:
        peer.ask("RepositoryModelLoad", model_name="counting")


def start_one_too_many(_: Scene) -> None:
    with known_caller("limits.max_sessions = 0") as peer:
        peer.infer(7, start=True)


def step_too_often(_: Scene) -> None:
    with known_caller("limits.max_ticks_per_s = 0.01") as peer:
        peer.infer(7, start=True)
        peer.infer(7)


def send_garbage(scene: Scene) -> None:
    method: Any = scene.peer.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    try:
        method(b"\xff")
    except Exception as error:  # noqa: BLE001 - gRPC's own, which is read below.
        raise Refused.of(error) from None


PROVOCATIONS: list[tuple[str, Callable[[Scene], object]]] = [
    ("MALFORMED", send_garbage),
    ("ARGUMENT_INVALID", lambda scene: scene.step(step=-1)),
    ("ARGUMENT_INVALID: no correlation id", lambda scene: scene.peer.infer(0, start=True)),
    ("ARGUMENT_INVALID: a batch above 1", lambda scene: scene.peer.infer(7, np.ones((2, 1)))),
    ("FRAME_SHAPE", lambda scene: scene.step(*[1.0] * 17)),
    ("FRAME_NOT_FINITE", lambda scene: scene.step(float("nan"))),
    ("FRAME_OUT_OF_RANGE", lambda scene: scene.step(501.0)),
    ("SESSION_UNKNOWN", lambda scene: scene.peer.infer(8)),
    ("SESSION_EXPIRED", expire),
    ("SESSION_DELETED", end),
    ("SESSION_RESTARTED", replace_life),
    ("SESSION_MOVED", move_natively),
    ("SESSION_CLAIMED", claim_natively),
    ("STEP_STALE", fall_behind),
    ("STEP_GAP", lambda scene: scene.step(step=3)),
    ("STEP_CONFLICT", lambda scene: scene.step(5.0, step=1)),
    ("MODEL_UNKNOWN", lambda scene: scene.peer.infer(7, model="nobody", start=True)),
    ("MODEL_NOT_SERVED", lambda scene: scene.without.infer(7)),
    ("MODEL_BROKEN", load_broken_model),
    ("NUMERICS_CHANGED", lambda scene: scene.strict.infer(7)),
    ("OUTPUT_NOT_FINITE", lambda scene: scene.step(GIVES_NAN)),
    ("STORE_FULL", fill_store),
    ("SESSIONS_FULL", start_without_end),
    ("STREAMS_FULL", open_two_streams),
    ("DRAINING", drain),
    ("RECORD_DAMAGED", lambda scene: scene.replace(damaged)),
    ("INTERNAL", lambda scene: scene.step(RAISES)),
    ("RECORD_NEWER", lambda scene: scene.replace(newer)),
    ("STORE_BUSY", lambda scene: scene.in_trouble(store.Contended())),
    ("STORE_AWAY", lambda scene: scene.in_trouble(store.StoreAwayError("store: is away."))),
    ("STORE_DAMAGED", lambda scene: scene.in_trouble(store.StoreDamagedError("store: is torn."))),
    ("CALLER_UNKNOWN", call_as_nobody),
    ("OPERATORS_ONLY", load_a_model),
    ("OWNER_SESSIONS_FULL", start_one_too_many),
    ("OWNER_RATE_EXCEEDED", step_too_often),
    ("OUTCOME_UNKNOWN", lambda scene: scene.in_trouble(store.Unknown("the disk failed"))),
]


def documented() -> dict[str, tuple[str, str]]:
    """Returns code and text by reason, and by what it is for where a reason has several."""
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    return {reason + what: (code, text) for reason, what, code, text in rows}


def test_document_has_every_reason() -> None:
    assert {name.partition(":")[0] for name in documented()} == {*errors.REASONS}


@pytest.mark.parametrize(("name", "provoke"), PROVOCATIONS, ids=[name for name, _ in PROVOCATIONS])
def test_reason_has_the_code_and_text_of_the_document(
    name: str, provoke: Callable[[Scene], object]
) -> None:
    code, text = documented()[name]
    with new_scene() as scene, pytest.raises(Refused) as caught:
        provoke(scene)
    assert (caught.value.code, caught.value.reason) == (code, name.partition(":")[0])
    pattern = ".*".join(re.escape(part) for part in text.strip("`").split("…"))
    assert re.fullmatch(pattern, str(caught.value), re.S), caught.value


def test_every_reason_that_can_be_met_is_provoked() -> None:
    never = {name for name, (code, _) in documented().items() if code == "never"}
    assert {name for name, _ in PROVOCATIONS} == {*documented()} - never


class TestTornCommits:
    """The store fails between the commits of a request that has several."""

    def test_start_whose_frame_finds_the_store_busy_is_sent_again(self) -> None:
        with new_scene() as scene:
            self.upset_the_second_commit(scene)
            with pytest.raises(Refused, match=r"a life was begun.*STORE_BUSY.*OUTCOME_UNKNOWN"):
                scene.peer.infer(8, [5.0], start=True, life=OTHER, step=0)
            scene.records.trouble = None
            assert scene.peer.infer(8, [5.0], start=True, life=OTHER, step=0) == [5.0]
            assert scene.peer.infer(8, [6.0], life=OTHER, step=1) == [1006.0]

    def test_end_that_finds_the_store_busy_is_sent_again(self) -> None:
        with new_scene() as scene:
            self.upset_the_second_commit(scene)
            with pytest.raises(
                Refused, match=r"its frames were applied, but the end was.*STORE_BU"
            ):
                scene.step(end=True)
            scene.records.trouble = None
            scene.step(end=True)
            with pytest.raises(Refused, match="was deleted after 3 steps"):
                scene.step(step=3)

    def upset_the_second_commit(self, scene: Scene) -> None:
        def upset() -> None:
            scene.records.trouble = store.Contended()

        scene.records.interruptions += [lambda: None, upset]


def test_ids_that_are_not_ascii_are_named_in_refusals() -> None:
    with new_scene() as scene, pytest.raises(Refused, match="for sequence r\u00f6bot to model"):
        scene.peer.send(request("r\u00f6bot", id="n\u00b0 1"))
