"""A course: some hundred hostile messages of one sender, which follow from a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from doubles.raw_peer import RawPeer
from fuzz import mutation
from fuzz.requests import Sender
from fuzz.rpcs import Rpc
from fuzz.tally import ANSWERS, INFERENCES, STEPS, TOGETHER, Tally, code_of, codes_within
from fuzz.targets import Attacker, Target
from tickcell.conformance import peer
from tickcell.conformance.caller import PATIENCE_S
from tickcell.v1 import session_service_pb2 as pb

MESSAGES = 200

CREATE = "/tickcell.v1.SessionService/CreateSession"
GET = "/tickcell.v1.SessionService/GetSession"
LOAD = "/tickcell.v1.ModelService/LoadModel"
# Of these there are more, since most can go wrong in them.
_OFTEN = ("/tickcell.v1.SessionService/StepSession", TOGETHER, f"/{peer.SERVICE}/ModelInfer")

# What gRPC's client says where a stream ended while it was writing: it has lost the status.
_CLIENTS_OWN = "Internal error from Core"
# What a server of another name would be asked for.
_NOT_SERVED = ("/tickcell.v1.SessionService/Nothing", "/nobody.Known/Step", "/", "//", "/a/b/c")
# Just above what a server reads, and what it does.
_LONG_BYTES = 4 * 1024 * 1024


class Course:
    """One sender's messages, one call after another."""

    def __init__(
        self,
        seed: str,
        number: int,
        attackers: Sequence[Attacker],
        victims: Sequence[Target],
        frames: np.ndarray,
        rpcs: dict[str, Rpc],
        tally: Tally,
    ) -> None:
        """Prepares a course.

        Args:
          seed: of all courses.
          number: the course's.
          attackers: of whom one sends it.
          victims: what it must not change where its sender has no right to.
          frames: readings that the model takes, `[T, F]`.
          rpcs: those of the server, by path.
          tally: takes what becomes of it.
        """
        self._number = number
        self._chance = random.Random(f"{seed}/{number}")
        self._attacker = self._chance.choice(attackers)
        self._victims = victims
        self._rpcs = rpcs
        self._tally = tally
        self._sender = Sender(self._chance, f"course-{seed}-{number}", victims, frames)
        self._unary = [rpc for rpc in rpcs.values() if not (rpc.takes_many or rpc.gives_many)]
        self._many = [rpc for rpc in rpcs.values() if rpc.takes_many or rpc.gives_many]
        self._left = MESSAGES

    async def run(self, channel: grpc.aio.Channel, blocking: grpc.Channel, address: str) -> None:
        """Sends its messages.

        Args:
          channel: what most go over.
          blocking: a channel of another kind, for what it alone can find out.
          address: of the server, for connections of the course's own.
        """
        self._channel, self._blocking, self._address = channel, blocking, address
        await self._begin()
        while self._left > 0:
            drawn = self._chance.random()
            if drawn < 0.30:
                await self._call()
            elif drawn < 0.92:
                await self._stream()
            elif drawn < 0.96:
                await self._leave()
            elif drawn < 0.99:
                await self._misuse()
            elif drawn < 0.998:
                await self._send_raw()
            else:
                await self._send_long()

    async def _begin(self) -> None:
        """Tries one RPC after another, two a course; creates the sender's own session."""
        rpcs = [*self._rpcs.values()]
        for number in (2 * self._number, 2 * self._number + 1):
            rpc = rpcs[number % len(rpcs)]
            if rpc.gives_many and not rpc.takes_many:
                await self._watch(rpc)
            elif rpc.takes_many:
                await self._send_all(rpc, [self._message(rpc)])
            else:
                await self._send(rpc, self._message(rpc))
        # Where the models are anybody's to unload, somebody may just have done it.
        await self._send(self._rpcs[LOAD], b"\x0a\x05drive")
        encoded = self._sender.create().SerializeToString()
        answer = await self._send(self._rpcs[CREATE], encoded)
        if answer is not None:
            self._sender.created(pb.CreateSessionResponse.FromString(answer).session)

    def _message(self, rpc: Rpc) -> bytes:
        """Returns a message for an RPC: right, nearly right, or random."""
        chance, sender = self._chance, self._sender
        while True:
            drawn = chance.random()
            expected = sender.next_step, sender.next_of_sequence
            if drawn < 0.05:
                encoded = chance.randbytes(chance.randint(0, 200))
            else:
                # Of another RPC, now and then.
                kind = chance.choice([*self._rpcs]) if drawn < 0.07 else rpc.path
                message = sender.request(kind)
                if drawn > 0.7:
                    for _ in range(chance.choice((1, 1, 2, 4))):
                        mutation.upset(chance, message, sender.words)
                encoded = message.SerializeToString()
                if 0.5 < drawn < 0.7 or drawn > 0.95:
                    encoded = mutation.garbled(chance, encoded)
            if drawn > 0.5:
                # It is not likely to be applied.
                sender.next_step, sender.next_of_sequence = expected
            if not any(self._attacker.may_change(each, rpc, encoded) for each in self._victims):
                return encoded

    async def _call(self) -> None:
        often = self._chance.random() < 0.5
        rpc = self._rpcs[self._chance.choice(_OFTEN)] if often else self._chance.choice(self._unary)
        await self._send(rpc, self._message(rpc))

    async def _send(self, rpc: Rpc, encoded: bytes) -> bytes | None:
        """Makes a unary call; returns its answer if there is one."""
        self._count(rpc.path, 1)
        method: Any = self._channel.unary_unary(rpc.path)
        try:
            answer: bytes = await method(encoded, metadata=self._metadata(), timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            self._answered(error.code().name, rpc.path, encoded, error.details())
            return None
        self._answered("OK", rpc.path, encoded)
        for code, told in codes_within(rpc.path, answer):
            self._answered(code, rpc.path, encoded, told)
        return answer

    async def _stream(self) -> None:
        """Sends some messages on a stream."""
        drawn = self._chance.random()
        path = STEPS if drawn < 0.5 else INFERENCES
        rpc = self._rpcs[path] if drawn < 0.95 else self._chance.choice(self._many)
        if not rpc.takes_many:
            await self._watch(rpc)
            return
        await self._look()
        count = self._chance.choice((0, 1, 2, 5, 20, 50))
        await self._send_all(rpc, [self._message(rpc) for _ in range(count)])

    async def _send_all(self, rpc: Rpc, messages: list[bytes]) -> None:
        """Sends messages on a stream, all at once, and reads what is answered to its end."""
        self._count(rpc.path, len(messages))
        metadata = self._metadata()
        method: Any = self._channel.stream_stream(rpc.path)
        call = method(_each(messages), metadata=metadata, timeout=PATIENCE_S)
        answered = 0
        try:
            async for encoded in call:
                code, told = code_of(rpc.path, encoded)
                message = messages[answered] if answered < len(messages) else b""
                self._answered(code, rpc.path, message, told)
                answered += 1
        except grpc.aio.AioRpcError as error:
            if error.details() == _CLIENTS_OWN:
                await asyncio.to_thread(self._stream_again, rpc.path, messages, metadata)
                return
            message = messages[answered] if answered < len(messages) else b""
            self._answered(error.code().name, rpc.path, message, error.details())
        else:
            if answered != len(messages):
                self._fault(rpc.path, b"", f"{answered} answers to {len(messages)} messages")

    def _stream_again(self, path: str, messages: Sequence[bytes], metadata: Any) -> None:
        """Sends messages on a stream anew, by the client that keeps its status."""
        method: Any = self._blocking.stream_stream(path)
        try:
            for encoded in method(iter(messages), metadata=metadata, timeout=PATIENCE_S):
                code, told = code_of(path, encoded)
                self._answered(code, path, messages[0], told)
        except grpc.RpcError as error:
            ended: Any = error
            self._answered(ended.code().name, path, messages[0], ended.details())

    async def _look(self) -> None:
        """Learns how far its own session and sequence are."""
        sender = self._sender
        owner = self._attacker.owner or ""
        sequence = Target.of_sequence(owner, str(sender.sequence.sequence), "")
        for session in (sender.session.session, sequence.session):
            request = pb.GetSessionRequest(session=session)
            answer = await self._send(self._rpcs[GET], request.SerializeToString())
            step = 0
            if answer is not None:
                step = pb.GetSessionResponse.FromString(answer).session.next_step
            if session == sequence.session:
                sender.next_of_sequence = step
            else:
                sender.next_step = step

    async def _watch(self, rpc: Rpc) -> None:
        """Reads the first answer of a call that goes on, and leaves."""
        encoded = self._message(rpc)
        self._count(rpc.path, 1)
        method: Any = self._channel.unary_stream(rpc.path)
        call = method(encoded, metadata=self._metadata(), timeout=PATIENCE_S)
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            self._answered(error.code().name, rpc.path, encoded, error.details())
        else:
            self._answered("OK", rpc.path, encoded)
            call.cancel()

    async def _leave(self) -> None:
        """Begins a call, and does not wait for its end: cancelled, or with no time at all."""
        rpc = self._chance.choice([*self._rpcs.values()])
        count = self._chance.choice((0, 1, 3))
        messages = [self._message(rpc) for _ in range(count)]
        self._count(rpc.path, count)
        if rpc.path in (STEPS, INFERENCES) or rpc.takes_many or rpc.gives_many or count == 0:
            method: Any = self._channel.stream_stream(rpc.path)
            call = method(metadata=self._metadata(), timeout=PATIENCE_S)
            for message in messages:
                # One that was refused already takes no more.
                if call.done():
                    break
                await _written(call, message)
            # A call of one message that ends without it is never answered by gRPC: its caller
            # waits for as long as it likes, and nobody else does.
            if self._chance.random() < 0.5 and not call.done():
                await call.done_writing()
        else:
            method = self._channel.unary_unary(rpc.path)
            timeout = self._chance.choice((0.0, 0.001, PATIENCE_S))
            call = method(messages[0], metadata=self._metadata(), timeout=timeout)
        await asyncio.sleep(self._chance.choice((0.0, 0.002)))
        call.cancel()
        self._tally.by_code["left"] += count

    async def _misuse(self) -> None:
        """Calls what is not served, or a method with more messages than it takes, or none."""
        chance = self._chance
        rpc = chance.choice([*self._rpcs.values()])
        path = chance.choice((rpc.path, *_NOT_SERVED))
        count = chance.choice((1, 3)) if path != rpc.path else 3
        messages = [self._message(rpc) for _ in range(count)]
        self._count(path, count)
        metadata = self._metadata()
        method: Any = self._channel.stream_stream(path)
        call = method(_each(messages), metadata=metadata, timeout=PATIENCE_S)
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            if error.details() == _CLIENTS_OWN:
                await asyncio.to_thread(self._stream_again, path, messages, metadata)
                return
            self._answered(error.code().name, path, messages[0], error.details())
        else:
            self._answered("OK", path, messages[0])
            call.cancel()

    async def _send_raw(self) -> None:
        """Sends, frame by frame, metadata that no gRPC client would."""
        rpc = self._chance.choice(self._unary)
        encoded = self._message(rpc)
        self._count(rpc.path, 1)
        metadata = dict(
            self._chance.choice(
                (
                    {"note": b"\xff\xfe"},
                    {"authorization": b"Bearer \xff\xfe"},
                    {"note-bin": b"!not base64!"},
                    {
                        "grpc-timeout": self._chance.choice(
                            (b"1Y", b"-1S", b"99999999H", b"", b"0n")
                        )
                    },
                    {"grpc-encoding": b"zip of my own"},
                    {"grpc-accept-encoding": b",,,\x7f"},
                    {"content-length": b"-1"},
                    {"grpc-status": b"0"},
                    {"Upper": b"case"},
                )
            )
        )
        await asyncio.to_thread(_send_raw, self._address, rpc.path, encoded, metadata)
        self._tally.by_code["raw"] += 1

    async def _send_long(self) -> None:
        """Sends a message near the longest that is read, of one field or of very many."""
        rpc = self._chance.choice([self._rpcs[path] for path in _OFTEN])
        size = _LONG_BYTES + self._chance.choice((-4096, 4096))
        unit = self._chance.choice((b"\0", b"\x0a\0", b"\x2a\0", b"\x3a\0", b"\x80"))
        await self._send(rpc, unit * (size // len(unit)))

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        chance = self._chance
        own: tuple[tuple[str, str | bytes], ...] = self._attacker.metadata
        if chance.random() < 0.9:
            return own
        hostile: list[tuple[str, str | bytes]] = [
            ("authorization", chance.choice(("", "Bearer", "Basic YTpi", "Bearer " + "x" * 3000))),
            ("note-bin", chance.randbytes(chance.choice((0, 1, 100, 3000)))),
            ("grpc-status-details-bin", chance.randbytes(50)),
            ("triton_grpc_error", chance.choice(("true", "maybe"))),
            ("traceparent", chance.choice(("00-0-0-0", "ff" * 30))),
            ("user-agent", "x" * 1000),
            *((f"key-{index}", "value") for index in range(chance.choice((1, 60)))),
        ]
        return (*own, *chance.sample(hostile, chance.randint(1, 3)))

    def _count(self, path: str, count: int) -> None:
        # A call without a message is one all the same.
        self._left -= max(1, count)
        self._tally.sent += count
        self._tally.by_rpc[path] += count

    def _answered(self, code: str, path: str, message: bytes, told: str | None = "") -> None:
        self._tally.by_code[code] += 1
        if code not in ANSWERS:
            self._fault(path, message, f"{code}, {told}")

    def _fault(self, path: str, message: bytes, what: str) -> None:
        sent = f"{message[:300].hex()} ({len(message)} bytes)"
        self._tally.faults.append(f"course {self._number}: {path} answered {sent} with {what}")


async def _each(messages: Sequence[bytes]) -> Any:
    for message in messages:
        yield message


async def _written(call: Any, message: bytes) -> None:
    try:
        await call.write(message)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # It has ended in the meantime.
        assert call.done()


def _send_raw(address: str, path: str, message: bytes, metadata: dict[str, bytes]) -> None:
    with RawPeer(address) as raw:
        raw.call(path.encode(), message[:10_000], **metadata)
        if not raw.has_heard.wait(PATIENCE_S):
            assert raw.has_ended.is_set(), f"{path}: no answer to {metadata}"
