"""A stream of single steps with asyncio, and gRPC's ways to leave a caller waiting."""

from __future__ import annotations

import asyncio
import socket

import grpc.aio
import pytest

from tickcell import wire
from tickcell.client import address
from tickcell.client.async_step_stream import AsyncStepStream
from tickcell.client.connection import Connection

# Longer than anything here takes, so that a hang is a failure.
PATIENCE_S = 30.0


def test_a_request_that_waits_for_a_connection_is_given_up_after_the_deadline() -> None:
    async def step(name: str) -> bool:
        channel = grpc.aio.insecure_channel(name, options=[("grpc.enable_http_proxy", 0)])
        connection = Connection(address.parse_all(name)[0], channel, "")
        stream = AsyncStepStream(connection, "car-7", deadline_s=0.2)
        try:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(
                    stream.exchange([wire.StreamStepsRequest()], lambda: None), PATIENCE_S
                )
            return stream.is_over
        finally:
            stream.drop()
            await channel.close()

    # It takes connections, and never says a word.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asyncio.run(step(f"127.0.0.1:{silent.getsockname()[1]}"))
