"""A server: the parts put together, from a store and models to an address."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

from tickcell.server import calls, errors, listening, standard_services, store
from tickcell.server.config import NANOSECONDS
from tickcell.server.model_servicer import ModelServicer
from tickcell.server.records import Records
from tickcell.server.session_servicer import SessionServicer
from tickcell.server.sessions import Sessions
from tickcell.server.step_servicer import StepServicer
from tickcell.server.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.server.catalogue import Catalogue
    from tickcell.server.clock import Clock
    from tickcell.server.config import Config

SESSION_SERVICE = "tickcell.v1.SessionService"
MODEL_SERVICE = "tickcell.v1.ModelService"

# What the default durability leaves to a power cut, and how often a few records are
# looked at for forgotten ones. It never ends, whatever it meets.
_UPKEEP_PERIOD_S = 1.0

# For calls that have arrived by the end of the streams: far longer than they need.
_LAST_CALLS_S = 0.25

_log = logging.getLogger(__name__)


class Server:
    """Serves sessions of some models, kept in one store, on one address.

    Holds no session state: it can be killed at any moment, and any number of servers
    can serve one store.
    """

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        opened: store.EmbeddedStore,
        clock: Clock,
        extra_handlers: Sequence[grpc.GenericRpcHandler] = (),
    ) -> None:
        self._config = config
        self._store = opened
        records = Records(opened)
        retention_ns = round(config.retention_s * NANOSECONDS)
        turn = Turn(
            records,
            catalogue,
            clock,
            retention_ns=retention_ns,
            max_request_rows=config.limits.max_request_rows,
            strict_numerics=config.numerics == "strict",
        )
        self._sessions = Sessions(
            records,
            catalogue,
            clock,
            retention_ns=retention_ns,
            max_sessions=config.limits.max_sessions,
            max_record_bytes=config.limits.max_record_bytes,
        )
        self._gate = calls.Gate()
        self._steps = StepServicer(self._gate, turn, max_streams=config.limits.max_streams)
        lives = SessionServicer(self._gate, config, self._sessions, catalogue)
        models = ModelServicer(self._gate, catalogue)
        self._handlers = [
            grpc.method_handlers_generic_handler(
                SESSION_SERVICE, {**lives.methods(), **self._steps.methods()}
            ),
            grpc.method_handlers_generic_handler(MODEL_SERVICE, models.methods()),
            *extra_handlers,
        ]
        self._health = health.aio.HealthServicer()
        self._upkeep: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Starts to serve, and returns the address with the port that was bound.

        Raises:
          ListenError: the address cannot be listened on.
        """
        address = self._config.listen
        listening.check_free(address)
        self._server = grpc.aio.server(options=_options(self._config))
        self._server.add_generic_rpc_handlers(self._handlers)
        names = (SESSION_SERVICE, MODEL_SERVICE, health.SERVICE_NAME)
        standard_services.add_health(self._health, self._server)
        standard_services.add_reflection((*names, reflection.SERVICE_NAME), self._server)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise listening.ListenError(f"--listen: {address}: {error}.") from error
        await self._server.start()
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._upkeep = asyncio.create_task(self._keep_up())
        return listening.bound(address, port)

    async def stop(self) -> None:
        """Drains: refuses what comes, answers what was read, ends the streams, stops.

        The store stays open.
        """
        await self._health.enter_graceful_shutdown()
        self._gate.close()
        await self._steps.drain(self._config.grace_s)
        last_calls_s = min(_LAST_CALLS_S, self._config.grace_s)
        await self._gate.wait_until_quiet(last_calls_s)
        # What stays open longer is not ours to wait for, such as a watch of our health.
        await self._server.stop(last_calls_s)
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)

    async def _keep_up(self) -> None:
        """Syncs the store and sweeps it, over and over."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_UPKEEP_PERIOD_S)
            try:
                # Elsewhere, since a slow disk must not hold up the ticks.
                await loop.run_in_executor(None, self._store.upkeep)
                removed = self._sessions.sweep()
                if removed:
                    _log.info("removed %d ended sessions", removed)
            except (store.StoreError, errors.TickcellError) as error:
                _log.error("upkeep: %s", error)
            except Exception:  # noqa: BLE001 - logged; whatever it is, the next second's is done.
                _log.exception("upkeep failed")


def _options(config: Config) -> list[tuple[str, int]]:
    return [
        # With it, a second server on a taken port goes unnoticed.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Above 1,000 calls that wait to be taken up, gRPC answers some with a bare
        # CANCELLED. Nobody is refused without a reason, so none of them is; what bounds
        # them is what a connection may have open.
        ("grpc.server.max_pending_requests", 1_000_000),
        ("grpc.server.max_pending_requests_hard_limit", 1_000_000),
        ("grpc.max_concurrent_streams", max(10_000, config.limits.max_streams)),
        # A robot's link dies without a word, and its stream keeps a place. A connection
        # that is silent for this long is asked, and ended if it does not answer: long
        # before its client, which tries again at least every 2 s, has waited for 10 s.
        ("grpc.keepalive_time_ms", 3_000),
        ("grpc.keepalive_timeout_ms", 4_000),
        ("grpc.http2.ping_timeout_ms", 4_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 3_000),
        # A proxy in between asks likewise, each second and amid idle streams.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
    ]
