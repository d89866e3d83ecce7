"""Bytes that nobody should send, to every method: an answer, and nothing else changed.

What comes is random, or a request as it should be with some of its bytes or fields
changed. No call may end in INTERNAL or UNKNOWN, which would be a fault of ours, and no
sequence may change but the one that is addressed.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from doubles.in_process_server import InProcessServer
from doubles.interrupted_store import InterruptedStore
from tickcell.conformance.peer import PATIENCE_S, SERVICE, Peer, PeerStream, Refused, request
from tickcell.server import errors

LIFE = "00000000-0000-0000-0000-000000000001"
METHODS = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
BYSTANDERS: list[Any] = ["a bystander of whom nobody else knows", 1234567890123456789]
SEQUENCES: list[int | str] = [7, "7", 8]
REASONS = re.compile(rf"\[({'|'.join(errors.REASONS)})[]:]")
# What a request may be answered with. Neither of a fault of ours, nor of none at all.
ANSWERS = {
    *(grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND),
    *(grpc.StatusCode.ABORTED, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED),
}


def valid(chance: random.Random, method: str) -> Any:
    """Returns a request that a method takes."""
    message = getattr(pb, _request_name(method))()
    if method in ("ModelInfer", "ModelStreamInfer"):
        readings = [chance.uniform(-9.0, 9.0) for _ in range(chance.randint(1, 4))]
        life = LIFE if chance.random() < 0.5 else ""
        return request(
            SEQUENCES[chance.randrange(3)],
            readings,
            model=chance.choice(["counting", "other"]),
            start=chance.random() < 0.5,
            end=chance.random() < 0.2,
            life=life,
            step=chance.randint(0, 3) if life else None,
            id="r",
        )
    for field in message.DESCRIPTOR.fields:
        if field.name in ("name", "model_name"):
            setattr(message, field.name, "counting")
    return message


def _request_name(method: str) -> str:
    (name,) = (each.input_type.name for each in METHODS if each.name == method)
    return str(name)


def mutated(chance: random.Random, encoded: bytes) -> bytes:
    """Returns the bytes with a few of them changed, left out, put in or doubled."""
    changed = bytearray(encoded)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(changed))
        length = chance.randint(1, 8)
        match chance.randrange(4):
            case 0:
                changed[place : place + length] = b""
            case 1:
                changed[place:place] = chance.randbytes(length)
            case 2:
                changed[place:place] = changed[place : place + length]
            case _:
                changed[place : place + 1] = chance.randbytes(1)
    return bytes(changed)


def upset(chance: random.Random, message: Any) -> Any:
    """Changes one field of an inference request to what its kind allows."""
    integer = chance.choice([0, 1, -1, 2**31, 2**63 - 1, -(2**63)])
    text = chance.choice(["", "7", "\u0000", "x" * 200, "counting", LIFE])
    match chance.randrange(6):
        case 0:
            message.model_name = text
        case 1:
            message.model_version = text
        case 2:
            message.inputs[0].shape[:] = [integer] * chance.randint(0, 5)
        case 3:
            message.inputs[0].datatype = chance.choice(["FP64", "INT32", "BYTES", text])
        case 4:
            message.raw_input_contents[0] = chance.randbytes(chance.randint(0, 20))
        case _:
            name = chance.choice([*message.parameters, "sequence_life", "sequence_step", text])
            kind = chance.choice(["bool_param", "int64_param", "string_param", "double_param"])
            values = {"bool_param": True, "int64_param": integer, "string_param": text}
            setattr(message.parameters[name], kind, values.get(kind, 1.5))
    return message


def hostile(chance: random.Random, method: str) -> bytes:
    """Returns a request that is random, nearly right, or right."""
    message = valid(chance, method)
    what = chance.random()
    if what < 0.2:
        return chance.randbytes(chance.randint(0, 200))
    if what < 0.4:
        return bytes(message.SerializeToString())
    if method in ("ModelInfer", "ModelStreamInfer") and chance.random() < 0.5:
        message = upset(chance, message)
        if chance.random() < 0.5:
            return bytes(message.SerializeToString())
    return mutated(chance, message.SerializeToString())


@pytest.fixture
def scene(
    peer: Peer, records: InterruptedStore, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Two sequences that nobody addresses are as they were afterwards, and the log is quiet."""
    for sequence in BYSTANDERS:
        peer.infer(sequence, [1.0], start=True)
        peer.infer(sequence, [2.0])
    before = records.scan(None, None, 10)
    assert len(before) == 2
    keys = [key for key, _ in before]
    with caplog.at_level(logging.ERROR):
        yield
    assert records.load(keys) == [encoded for _, encoded in before]
    assert [record.message for record in caplog.records] == []
    for sequence in BYSTANDERS:
        assert peer.infer(sequence, [3.0]) == [2003.0]


@pytest.mark.parametrize("count", [100, pytest.param(2_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", [each.name for each in METHODS if not each.client_streaming])
@pytest.mark.usefixtures("scene")
def test_every_call_is_answered(peer: Peer, method: str, count: int) -> None:
    chance = random.Random(method)
    call: Any = peer.channel.unary_unary(f"/{SERVICE}/{method}")
    many = 20 * count if method == "ModelInfer" else count
    for _ in range(many):
        try:
            call(hostile(chance, method), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            refused: Any = error
            assert refused.code() in ANSWERS, refused


@pytest.mark.parametrize("count", [2000, pytest.param(50_000, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("scene")
def test_every_request_of_a_stream_is_answered_in_it(peer: Peer, count: int) -> None:
    chance = random.Random(count)
    refusals = []
    with PeerStream(peer, patience_s=PATIENCE_S + count / 100) as stream:
        for _ in range(count):
            try:
                stream.exchange(hostile(chance, "ModelStreamInfer"))
            except Refused as refused:
                refusals.append(refused)
    assert [str(refused) for refused in refusals if refused.code] == []
    assert [str(refused) for refused in refusals if "[INTERNAL]" in str(refused)] == []
    # Some of them are right after all.
    assert count / 2 < len(refusals) < 0.98 * count


def test_requests_are_told_apart_by_what_is_wrong(server: InProcessServer) -> None:
    """The mutations reach the depths: they are refused for many reasons, and not for one."""
    chance = random.Random(0)
    refusals = []
    with Peer(server.address) as peer, PeerStream(peer) as stream:
        for _ in range(1000):
            try:
                stream.exchange(hostile(chance, "ModelStreamInfer"))
            except Refused as refused:
                refusals.append(str(refused))
    reasons = {reason for each in refusals for reason in REASONS.findall(each)}
    assert len([each for each in refusals if REASONS.search(each)]) == len(refusals)
    assert reasons > {"MALFORMED", "ARGUMENT_INVALID", "MODEL_UNKNOWN", "SESSION_UNKNOWN"}
    assert len(reasons) > 6, reasons
