"""The protocol's messages, as tritonclient publishes them. No other module imports them."""

from __future__ import annotations

from typing import Any

from tickcell.model import extras

_EXTRA = "triton"

pb: Any = extras.load("tritonclient.grpc.service_pb2", extra=_EXTRA)
config_pb: Any = extras.load("tritonclient.grpc.model_config_pb2", extra=_EXTRA)

SERVICE: Any = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
