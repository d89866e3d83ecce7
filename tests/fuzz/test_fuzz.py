"""Hostile messages to every RPC of a real server; `make fuzz` sends more of them.

What is drawn must reach the depths: the last tests see to that, since a run that is refused
at the door finds nothing.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fuzz import mutation, requests, run, witnesses
from fuzz.rpcs import Rpc
from fuzz.tally import INFERENCES, STEPS, TOGETHER
from fuzz.targets import MODEL, Attacker, Target
from tickcell import wire
from tickcell.conformance import peer
from tickcell.model import Bundle
from tickcell.v1 import session_service_pb2 as pb

SEED = "suite"
LIFE = "00000000-0000-4000-8000-000000000001"
SESSION = Target("ann", "robot", 7, LIFE)
SEQUENCE = Target.of_sequence("ann", "arm", LIFE)
ANN, MALLORY, OPERATOR = Attacker("ann"), Attacker("mallory"), Attacker("operator", True)


@pytest.mark.parametrize("kind", run.SCENES)
def test_nothing_but_refusals_comes_of_hostile_messages(kind: str, tmp_path: Path) -> None:
    outcome = run.fuzz(kind, tmp_path, SEED, 6_000)
    assert outcome.faults() == []
    tally = outcome.tally
    assert tally.sent >= 6_000
    assert outcome.witness_steps > 20
    # Each RPC was tried, and enough of all messages got through to where they matter.
    assert tally.by_rpc.keys() >= requests.KINDS.keys()
    assert tally.by_code["OK"] > tally.sent / 20
    assert tally.by_code["ABORTED"] > 0
    assert tally.by_code["OUT_OF_RANGE"] > 0


@pytest.mark.parametrize("kind", [witnesses.Session, witnesses.LifelessSequence])
def test_a_witness_notices_whoever_advances_it(
    kind: type[witnesses.Witness], tmp_path: Path
) -> None:
    bundle = Bundle.load()
    frames = bundle.golden.frames[:9]

    async def meddle(scene: run.Scene) -> None:
        async with grpc.aio.insecure_channel(scene.server.address) as channel:
            parts = (channel, scene.owners[0], bundle.cell())
            witness = kind(*parts, frames)
            await witness.begin("witness")
            await witness.step()
            await witness.look()
            meddler = kind(*parts, frames[::-1])
            meddler.target, meddler.next_step = witness.target, witness.next_step
            await meddler.send(frames[-1])
            with pytest.raises(witnesses.Moved, match="got owner, generation and step"):
                await witness.look()
            with pytest.raises(witnesses.Moved, match=f"step {witness.next_step}"):
                await witness.step()

    with run.without_callers(tmp_path) as scene:
        asyncio.run(meddle(scene))


def test_an_rpc_of_which_no_requests_can_be_drawn_is_an_error() -> None:
    known = [Rpc(path, pb.GetSessionRequest, False, False) for path in requests.KINDS]
    requests.require_kinds(known)
    new = Rpc("/tickcell.v1.SessionService/SwapSessions", pb.GetSessionRequest, False, False)
    with pytest.raises(LookupError, match="SwapSessions"):
        requests.require_kinds([*known, new])
    with pytest.raises(LookupError, match=r"not served: .*LogSettings"):
        requests.require_kinds([each for each in known if "LogSettings" not in each.path])


def drawn(seed: int) -> list[bytes]:
    chance = random.Random(seed)
    sender = requests.Sender(chance, "own", [SESSION, SEQUENCE], np.ones((99, 10), np.float32))
    encoded = []
    for path in requests.KINDS:
        message = sender.request(path)
        mutation.upset(chance, message, sender.words)
        encoded.append(mutation.garbled(chance, message.SerializeToString(deterministic=True)))
    return encoded


def test_messages_follow_from_the_seed() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


class TestMayChange:
    """What is spared, and no more: whatever else reaches a witness is a fault."""

    @pytest.mark.parametrize(
        ("attacker", "fields", "may"),
        [
            (ANN, {"session": "robot", "generation": 7}, True),
            (ANN, {"session": "robot", "generation": 8}, False),
            (ANN, {"session": "other", "generation": 7}, False),
            # Steps without a generation are whatever comes next.
            (ANN, {"session": "robot"}, True),
            (MALLORY, {"session": "robot", "generation": 7}, False),
            (Attacker(None), {"session": "robot", "generation": 7}, False),
        ],
    )
    def test_a_step(self, attacker: Attacker, fields: dict[str, Any], may: bool) -> None:
        rpc = Rpc(STEPS, pb.StreamStepsRequest, True, True)
        encoded = pb.StreamStepsRequest(**fields).SerializeToString()
        assert attacker.may_change(SESSION, rpc, encoded) is may

    @pytest.mark.parametrize(
        ("others", "may"), [([], True), ([b""], True), ([b"\xff"], True), (None, False)]
    )
    def test_a_step_among_others(self, others: list[bytes] | None, may: bool) -> None:
        rpc = Rpc(TOGETHER, pb.StepSessionsRequest, False, False)
        own = pb.StreamStepsRequest(session="robot", generation=7).SerializeToString()
        message = wire.StepSessionsRequest(requests=[] if others is None else [*others, own])
        assert ANN.may_change(SESSION, rpc, message.SerializeToString()) is may
        assert not MALLORY.may_change(SESSION, rpc, message.SerializeToString())

    @pytest.mark.parametrize(
        ("attacker", "owner", "may"),
        [(OPERATOR, "ann", True), (OPERATOR, "", False), (MALLORY, "ann", False), (ANN, "", True)],
    )
    def test_a_life(self, attacker: Attacker, owner: str, may: bool) -> None:
        rpc = Rpc("", pb.DeleteSessionRequest, False, False)
        request = pb.DeleteSessionRequest(session="robot", generation=7, owner=owner)
        assert attacker.may_change(SESSION, rpc, request.SerializeToString()) is may

    @pytest.mark.parametrize(
        ("attacker", "fields", "may"),
        [
            (ANN, {"generation": 7}, True),
            (ANN, {"generation": 8}, False),
            (ANN, {"force": True}, True),
            (ANN, {}, False),
            (MALLORY, {"force": True}, False),
        ],
    )
    def test_a_claim(self, attacker: Attacker, fields: dict[str, Any], may: bool) -> None:
        rpc = Rpc("", pb.ClaimSessionRequest, False, False)
        request = pb.ClaimSessionRequest(session="robot", **fields)
        assert attacker.may_change(SESSION, rpc, request.SerializeToString()) is may

    @pytest.mark.parametrize(
        ("attacker", "sequence", "options", "may"),
        [
            (ANN, "arm", {}, True),
            (ANN, "arm", {"life": LIFE, "step": 0}, True),
            (ANN, "arm", {"life": LIFE.replace("1", "2"), "step": 0}, False),
            (ANN, "arm", {"life": LIFE.replace("1", "2"), "step": 0, "start": True}, True),
            (ANN, "leg", {}, False),
            (ANN, 7, {}, False),
            (MALLORY, "arm", {}, False),
        ],
    )
    def test_an_inference(
        self, attacker: Attacker, sequence: int | str, options: dict[str, Any], may: bool
    ) -> None:
        rpc = Rpc(INFERENCES, peer.pb.ModelInferRequest, True, True)
        encoded = peer.request(sequence, model=MODEL, **options).SerializeToString()
        assert attacker.may_change(SEQUENCE, rpc, encoded) is may
