"""Ticks a second from several streams at once, beside echoes a second."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import grpc

from bench import caller, echo
from tickcell.model import Bundle

# Echoes and ticks take turns, so that a slow minute is shared.
_BLOCKS = 4


class Throughput(NamedTuple):
    """Messages a second from so many streams, one in flight on each."""

    stream_count: int
    echoes: float
    ticks: float

    @property
    def ratio(self) -> float:
        """Ticks over echoes."""
        return self.ticks / self.echoes


class _Client:
    """One stream of echoes and one of ticks, with one session."""

    def __init__(self, channel: grpc.aio.Channel, session: caller.Session) -> None:
        self._echoes = caller.Stream(channel, echo.METHOD)
        self._ticks = caller.Stream(channel, caller.TICKS)
        self._session = session
        self._step = 0

    async def echo(self, until: float) -> int:
        """Echoes until then, and returns how often."""
        count = 0
        while time.perf_counter() < until:
            await self._echoes.exchange(self._session.request(self._step))
            count += 1
        return count

    async def tick(self, until: float) -> int:
        """Ticks until then, and returns how often."""
        first = self._step
        response = b""
        while time.perf_counter() < until:
            response = await self._ticks.exchange(self._session.request(self._step))
            self._step += 1
        # A refusal would be followed by refusals.
        caller.output(response)
        return self._step - first

    async def close(self) -> None:
        """Ends both streams."""
        await self._echoes.close()
        await self._ticks.close()


async def measure(address: str, bundle: Bundle, stream_count: int, seconds: float) -> Throughput:
    """Echoes for so many seconds and ticks for as many, in alternating blocks."""
    async with grpc.aio.insecure_channel(address) as channel:
        clients = [
            _Client(channel, await caller.Session.create(channel, bundle.golden.frames))
            for _ in range(stream_count)
        ]
        counts = {_Client.echo: 0, _Client.tick: 0}
        for _ in range(_BLOCKS):
            for act in counts:
                until = time.perf_counter() + seconds / _BLOCKS
                counts[act] += sum(await asyncio.gather(*[act(each, until) for each in clients]))
        await asyncio.gather(*[each.close() for each in clients])
    return Throughput(stream_count, counts[_Client.echo] / seconds, counts[_Client.tick] / seconds)
