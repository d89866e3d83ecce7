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
      has_ended: set once the connection has ended.
    """

    def __init__(self, target: str) -> None:
        self.address = ""
        self.calls = 0
        self.has_ended = asyncio.Event()
        self._target = target

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        back, forth = await asyncio.open_connection(host, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_calls(reader, forth))
            group.create_task(_pass_bytes(back, writer))
        await writer.wait_closed()
        await forth.wait_closed()
        self.has_ended.set()

    async def _pass_calls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            writer.write(await reader.readexactly(_PREFACE_BYTES))
            while True:
                head = await reader.readexactly(_HEAD_BYTES)
                writer.write(head + await reader.readexactly(int.from_bytes(head[:3])))
                # It never waits for the server to read; all of it is a few hundred KB.
                self.calls += head[3] == _DATA and head[4] & _END_STREAM
        writer.close()


async def _pass_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65536):
        writer.write(some)
    writer.close()


@contextlib.asynccontextmanager
async def counting_relay(target: str) -> AsyncIterator[CountingRelay]:
    """Runs a relay in front of a server at `HOST:PORT`."""
    relay = CountingRelay(target)
    async with await asyncio.start_server(relay._pass, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        relay.address = f"{host}:{port}"
        yield relay
        await relay.has_ended.wait()
