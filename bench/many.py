"""Ticks a second of a gateway with many robots: by single ticks on one stream, and by StepSessions.

A gateway that waits for each answer before it sends the next frame is `one by one`; one that
sends the frames of a tick first, and then reads the answers, is `at once`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from bench import caller, serving
from bench.row import Row, at_least
from tickcell import wire

if TYPE_CHECKING:
    from bench.row import Effort
    from tickcell.model import Bundle

_TOGETHER = "/tickcell.v1.SessionService/StepSessions"
_SESSIONS = 256


def rows(bundle: Bundle, effort: Effort) -> list[Row]:
    """Measures row 6."""
    with serving.served() as address:
        measured = asyncio.run(measure(address, bundle, _SESSIONS, effort))
    together = f"{measured.together:,.0f} ticks/s"
    return [
        Row(
            6,
            f"StepSessions of {_SESSIONS}, over ticks {how} on a stream",
            measured.together / rate,
            aim,
            beside=f"{together}, {how} {rate:,.0f}",
        )
        for how, rate, aim in (
            ("one by one", measured.one_by_one, at_least(10)),
            ("sent at once", measured.at_once, None),
        )
    ]


class Many(NamedTuple):
    """Ticks a second of so many sessions."""

    one_by_one: float
    at_once: float
    together: float


class _Gateway:
    """Ticks all of its sessions, in one of three ways."""

    def __init__(self, channel: grpc.aio.Channel, sessions: list[caller.Session]) -> None:
        self._sessions = sessions
        self._stream: Any = channel.stream_stream(caller.TICKS)()
        self._method: Any = channel.unary_unary(_TOGETHER)
        self._step = 0

    def _requests(self) -> list[bytes]:
        requests = [session.request(self._step) for session in self._sessions]
        self._step += 1
        return requests

    async def one_by_one(self) -> list[bytes]:
        responses = []
        for request in self._requests():
            await self._stream.write(request)
            responses.append(await self._stream.read())
        return responses

    async def at_once(self) -> list[bytes]:
        requests = self._requests()

        async def write() -> None:
            for request in requests:
                await self._stream.write(request)

        writing = asyncio.create_task(write())
        responses = [await self._stream.read() for _ in requests]
        await writing
        return responses

    async def together(self) -> list[bytes]:
        message = wire.StepSessionsRequest(requests=self._requests())
        answer = await self._method(message.SerializeToString())
        return list(wire.StepSessionsResponse.FromString(answer).responses)

    async def close(self) -> None:
        await self._stream.done_writing()
        await self._stream.read()


async def measure(address: str, bundle: Bundle, session_count: int, effort: Effort) -> Many:
    """Ticks so many sessions in each way, in alternating blocks."""
    async with grpc.aio.insecure_channel(address) as channel:
        sessions = [
            await caller.Session.create(channel, bundle.golden.frames) for _ in range(session_count)
        ]
        gateway = _Gateway(channel, sessions)
        ways = (gateway.one_by_one, gateway.at_once, gateway.together)
        counts, seconds = [0] * len(ways), [0.0] * len(ways)
        for _ in range(effort.blocks):
            for place, tick in enumerate(ways):
                begin = time.perf_counter()
                while time.perf_counter() < begin + effort.block_s:
                    responses = await tick()
                    counts[place] += len(responses)
                seconds[place] += time.perf_counter() - begin
                for response in responses:
                    caller.output(response)
        await gateway.close()
    return Many(*(count / each for count, each in zip(counts, seconds, strict=True)))
