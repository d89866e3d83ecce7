"""A relay that counts the calls which have come by it, whether or not the server reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_PREFACE_BYTES = 24
_HEAD_BYTES = 9
_DATA, _END_STREAM = 0, 1


class CountingRelay:
    """Passes one connection on to a server, both ways.

    Attributes:
      address: where it listens.
      calls: how many unary calls have come by in whole.
    """

    def __init__(self, target: str) -> None:
        self.address = ""
        self.calls = 0
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        back, forth = await asyncio.open_connection(host, int(port))
        self._writers += [forth, writer]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_calls(reader, forth))
            group.create_task(_pass_bytes(back, writer))

    async def _pass_calls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            writer.write(await reader.readexactly(_PREFACE_BYTES))
            while True:
                head = await reader.readexactly(_HEAD_BYTES)
                writer.write(head + await reader.readexactly(int.from_bytes(head[:3])))
                # It never waits for the server to read; all of it is a few hundred KB.
                self.calls += head[3] == _DATA and head[4] & _END_STREAM


async def _pass_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65536):
        writer.write(some)


@contextlib.asynccontextmanager
async def counting_relay(target: str) -> AsyncIterator[CountingRelay]:
    """Runs a relay in front of a server at `HOST:PORT`."""
    relay = CountingRelay(target)
    async with await asyncio.start_server(relay._pass, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        relay.address = f"{host}:{port}"
        yield relay
        # It lasts for as long as the channel's objects do, which nobody need wait for.
        for writer in relay._writers:
            writer.close()
            await writer.wait_closed()
