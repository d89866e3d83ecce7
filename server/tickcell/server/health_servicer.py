"""gRPC's health service: what `Health` judges, asked by name.

Of our own, since grpcio's answers bytes that are no message with a traceback, and its
drain waits for ever for a watcher that does not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2

from tickcell.server import calls, errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tickcell.server.health import Health

    Status = health_pb2.HealthCheckResponse.ServingStatus

HEALTH_SERVICE = health.SERVICE_NAME


class HealthServicer:
    """Says of each service whether it is served; they stand and fall together."""

    def __init__(self, gate: calls.Gate, judge: Health, services: Iterable[str]) -> None:
        """Makes the servicer.

        Args:
          gate: refuses what is no message; it need not be open.
          judge: knows whether the server serves.
          services: whose health may be asked for; "" for the whole server's is known too.
        """
        self._gate = gate
        self._health = judge
        self._services = {"", *services}

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }

    async def _check(self, encoded: bytes, context: calls.Context) -> bytes:
        service = await self._service(encoded, context)
        if service not in self._services:
            # The code is that of gRPC's health protocol.
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"no service {service[:80]!r} is served; served are: "
                f"{', '.join(sorted(self._services - {''}))}, or '' for the whole server.",
            )
        return self._answer(service)

    async def _watch(self, encoded: bytes, context: calls.Context) -> None:
        service = await self._service(encoded, context)
        while not self._health.is_draining:
            # Taken before the answer is: what changes while that is written is not missed.
            changed = self._health.changed
            await context.write(self._answer(service))
            await changed.wait()
        await context.write(self._answer(service))

    async def _service(self, encoded: bytes, context: calls.Context) -> str:
        try:
            service: str = calls.parse(health_pb2.HealthCheckRequest, encoded).service
        except errors.TickcellError as error:
            await self._gate.refuse(context, error)
        return service

    def _answer(self, service: str) -> bytes:
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if self._health.is_serving else response.NOT_SERVING
        if service not in self._services:
            status = response.SERVICE_UNKNOWN
        encoded: bytes = response(status=status).SerializeToString()
        return encoded
