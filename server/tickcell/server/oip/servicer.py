"""The service put together: `inference.GRPCInferenceService` over an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.server.config import NANOSECONDS
from tickcell.server.oip.infer_servicer import InferServicer
from tickcell.server.oip.model_servicer import ModelServicer, refused_methods
from tickcell.server.oip.protocol import SERVICE
from tickcell.server.oip.repository import Repository
from tickcell.server.oip.sequences import Sequences
from tickcell.server.oip.statistics import Statistics

if TYPE_CHECKING:
    from tickcell.server import calls
    from tickcell.server.config import Config
    from tickcell.server.engine import Engine
    from tickcell.server.health import Health
    from tickcell.server.streams import Streams

INFERENCE_SERVICE: str = SERVICE.full_name


def methods(
    gate: calls.Gate, config: Config, engine: Engine, health: Health, streams: Streams
) -> dict[str, calls.Handler]:
    """Returns the handlers of all methods of the service by name."""
    idle_ttl_ns = round(config.oip_idle_ttl_s * NANOSECONDS)
    repository = Repository(engine.catalogue)
    statistics = Statistics()
    sequences = Sequences(
        engine, repository, idle_ttl_ns=idle_ttl_ns, max_window=config.limits.max_window
    )
    infer = InferServicer(gate, engine, sequences, statistics, streams)
    models = ModelServicer(
        gate,
        engine,
        repository,
        statistics,
        health,
        idle_ttl_ns=idle_ttl_ns,
        control=engine.models if config.control == "explicit" else None,
    )
    served = infer.methods() | models.methods()
    return served | refused_methods(gate, {*served})
