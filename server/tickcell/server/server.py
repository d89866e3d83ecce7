"""A server: the parts put together, from a store and models to an address."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import grpc

from tickcell.model.extras import MissingExtraError
from tickcell.server import calls, listening
from tickcell.server.access import Access
from tickcell.server.health_servicer import HEALTH_SERVICE, HealthServicer
from tickcell.server.model_servicer import ModelServicer
from tickcell.server.reflection_servicer import REFLECTION_SERVICE, ReflectionServicer
from tickcell.server.seal import Seal
from tickcell.server.session_servicer import SessionServicer
from tickcell.server.several_servicer import SeveralServicer
from tickcell.server.state_servicer import StateServicer
from tickcell.server.step_servicer import StepServicer
from tickcell.server.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tickcell.server.config import Config
    from tickcell.server.engine import Engine
    from tickcell.server.health import Health

SESSION_SERVICE = "tickcell.v1.SessionService"
MODEL_SERVICE = "tickcell.v1.ModelService"

# How often it is looked whether gRPC still serves.
_GRPC_PERIOD_S = 1.0

# For calls that have arrived by the end of the streams: far longer than they need.
_LAST_CALLS_S = 1.0

# Of one stream, sent and not yet read. With 50 ms to a caller and back, 2.6 MB/s.
_STREAM_BYTES = 128 * 1024

# For the calls of a connection that has lasted long enough. Streams are cut off then.
_LAST_OF_CONNECTION_MS = 2_000

# The largest that gRPC's options take.
_NO_LIMIT = 2**31 - 1

_log = logging.getLogger(__name__)


class Server:
    """Serves an engine on one address.

    Holds no session state: it can be killed at any moment, and any number of servers
    can serve one store.

    Attributes:
      services: the methods that are served, by service.
      lacks_oip: why the Open Inference Protocol is not served; None if it is, or is not
        wanted.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        health: Health,
        extra_handlers: Sequence[grpc.GenericRpcHandler] = (),
        access: Access | None = None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._health = health
        self._access = access or Access()
        self.lacks_oip: MissingExtraError | None = None
        self._gate = calls.Gate(self._access, engine.observer)
        self._streams = Streams(self._gate, engine.observer, config.limits.max_streams)
        steps = StepServicer(self._gate, self._streams, engine)
        several = SeveralServicer(self._gate, config, engine)
        seal = Seal.of(config)
        lives = SessionServicer(self._gate, config, engine, seal)
        states = StateServicer(self._gate, config, engine, seal)
        self.services = {
            SESSION_SERVICE: {
                **lives.methods(),
                **states.methods(),
                **steps.methods(),
                **several.methods(),
            },
            MODEL_SERVICE: ModelServicer(self._gate, engine).methods(),
            **self._inference(),
        }
        shown = (*self.services, HEALTH_SERVICE)
        self.services[HEALTH_SERVICE] = HealthServicer(self._gate, health, shown).methods()
        self.services[REFLECTION_SERVICE] = ReflectionServicer(self._gate, shown).methods()
        if engine.observer.spans is not None:
            self.services = engine.observer.spans.traced(self.services)
        self._handlers = [
            *(grpc.method_handlers_generic_handler(*each) for each in self.services.items()),
            *extra_handlers,
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def _inference(self) -> dict[str, dict[str, calls.Handler]]:
        """Returns the service of the Open Inference Protocol; none where it is not wanted."""
        if self._config.oip == "off":
            return {}
        try:
            from tickcell.server.oip import servicer
        except MissingExtraError as error:
            self.lacks_oip = error
            return {}
        parts = (self._gate, self._config, self._engine, self._health, self._streams)
        return {servicer.INFERENCE_SERVICE: servicer.methods(*parts)}

    async def start(self) -> str:
        """Starts to serve, and returns the address with the port that was bound.

        Raises:
          ListenError: the address cannot be listened on, or not in plain text.
          RepositoryError: the models cannot be read.
        """
        if self._config.tls_certificate is None and not self._config.insecure:
            listening.require_loopback(self._config.listen)
        await self._engine.reach_store()
        await self._engine.models.begin(self._config.loads)
        port = await self._serve(self._config.listen)
        self._address = listening.bound(self._config.listen, port)
        works = (
            self._engine.keep_up(),
            self._health.keep_judging(),
            self._keep_serving(),
            self._access.keep_looking(self._streams.admit_anew),
        )
        self._tasks = [asyncio.create_task(work) for work in works]
        return self._address

    async def stop(self) -> None:
        """Drains: refuses what comes, answers what was read, ends the streams, stops.

        The store stays open.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        deadline_s = time.monotonic() + self._config.grace_s
        self._gate.close()
        self._health.drain()
        await self._streams.drain(self._config.grace_s)
        last_calls_s = min(_LAST_CALLS_S, self._config.grace_s)
        await self._gate.wait_until_quiet(last_calls_s)
        await self._engine.finish(max(last_calls_s, deadline_s - time.monotonic()))
        # What stays open longer is not ours to wait for, such as a watch of our health.
        await self._server.stop(last_calls_s)
        self._engine.close()

    async def _serve(self, address: str) -> int:
        """Begins to serve on an address, and returns the port that was bound."""
        if self._config.workers == 1:
            # The parent of several has looked, and holds the port.
            listening.check_free(address)
        server = grpc.aio.server(options=_options(self._config))
        server.add_generic_rpc_handlers(self._handlers)
        credentials = self._access.server_credentials()
        try:
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise listening.ListenError(f"--listen: {address}: {error}.") from error
        await server.start()
        self._server = server
        return port

    async def _keep_serving(self) -> None:
        """Serves anew, on the same address, whenever gRPC has stopped by itself.

        grpcio 1.85 does for good when a method's name is not UTF-8, which anybody can
        send. Its streams break off as those of a killed server do: nothing is lost.
        """
        while True:
            await asyncio.sleep(_GRPC_PERIOD_S)
            try:
                await self._serve_on()
            except Exception as error:  # noqa: BLE001 - the edge: logged, and tried again.
                _log.error("serving again on %s failed: %s", self._address, error)

    async def _serve_on(self) -> None:
        try:
            # Does nothing where it serves.
            await self._server.start()
        except grpc.aio.UsageError:
            _log.error("gRPC has stopped serving by itself; serving again on %s", self._address)
            await self._server.stop(None)
            await self._serve(self._address)


def _options(config: Config) -> list[tuple[str, int]]:
    # gRPC looks at a client's certificate when a connection is made, and never again.
    certified = [
        ("grpc.max_connection_age_ms", round(1000 * config.connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _LAST_OF_CONNECTION_MS),
    ]
    return [
        *(certified if config.tls_client_ca is not None else ()),
        # Where workers do not share the port, a second server on it must not go unnoticed.
        ("grpc.so_reuseport", int(config.workers > 1)),
        ("grpc.max_receive_message_length", config.limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # What a stream may have under way that is not read yet. By itself gRPC lets it grow
        # to several MB where the link is quick, and a hundred callers that send much and
        # read nothing would take all memory.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _STREAM_BYTES),
        # Calls that came while the loop was busy wait for as long as their callers do. By
        # default gRPC ends them, without a reason, above 1,000 or after 30 s.
        ("grpc.server.max_pending_requests", _NO_LIMIT),
        ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
        ("grpc.server_max_unrequested_time_in_server", _NO_LIMIT),
        # A robot's link dies without a word, and its stream keeps a place. A connection
        # that is silent for this long is asked, and ended if it does not answer: long
        # before its client, which tries again at least every 2 s, has waited for 10 s.
        ("grpc.keepalive_time_ms", 3_000),
        ("grpc.keepalive_timeout_ms", 4_000),
        # The one of the two that counts in grpcio 1.85, also for gRPC's own measurements
        # of the link; a minute by default.
        ("grpc.http2.ping_timeout_ms", 4_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # How often others may ask us, for all its name says. A proxy in between asks each
        # second and amid idle streams; who asks far more often is cut off.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ]
