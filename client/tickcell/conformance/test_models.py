"""What the server says that it serves, and that it is there."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tickcell.conformance.caller import PATIENCE_S, Caller, refused_for
from tickcell.v1 import model_service_pb2 as pb

pytestmark = pytest.mark.contract("model_service.proto")

SERVICES = ("tickcell.v1.SessionService", "tickcell.v1.ModelService")
# In grpc.health.v1.
SERVING = 1


def test_model_is_shown_the_same_alone_and_in_the_list(caller: Caller, served: pb.Model) -> None:
    wanted = pb.GetModelRequest(name=served.name, version=served.version)
    alone = caller.call(caller.models.GetModel, wanted).model
    page = caller.call(caller.models.ListModels, pb.ListModelsRequest(page_size=1000))
    named = (alone.name, alone.version)
    assert [each for each in page.models if (each.name, each.version) == named] == [alone]


def test_model_says_all_that_a_caller_must_know(served: pb.Model) -> None:
    assert served.name
    assert served.version
    assert re.fullmatch(r"[0-9a-f]{64}", served.fingerprint)
    assert re.fullmatch(r"[0-9a-f]+", served.numerics_digest)
    assert served.rate_hz > 0
    assert served.output_names
    assert len({sensor.name for sensor in served.sensors}) == len(served.sensors) > 0
    for sensor in served.sensors:
        assert math.isfinite(sensor.min_reading)
        assert math.isfinite(sensor.max_reading)
        assert sensor.min_reading < sensor.max_reading
    assert {tensor.dtype for tensor in served.state_tensors} <= {"float32"}


@pytest.mark.parametrize("size", [1, 1000])
def test_pages_list_the_model_once(caller: Caller, served: pb.Model, size: int) -> None:
    listed: list[tuple[str, str]] = []
    token = ""
    while True:
        page = caller.call(
            caller.models.ListModels, pb.ListModelsRequest(page_size=size, page_token=token)
        )
        assert len(page.models) <= size
        listed.extend((model.name, model.version) for model in page.models)
        token = page.next_page_token
        if not token:
            break
    assert listed == sorted(set(listed))
    assert (served.name, served.version) in listed


@pytest.mark.parametrize("name", ["nothing-of-ours", "x" * 100_000], ids=["short", "huge"])
@pytest.mark.parametrize("field", ["name", "version"])
def test_model_that_is_not_served_is_unknown(caller: Caller, name: str, field: str) -> None:
    with refused_for("MODEL_UNKNOWN"):
        caller.call(caller.models.GetModel, pb.GetModelRequest(**{field: name}))


@pytest.mark.contract(10)
@pytest.mark.parametrize("method", ["ListModels", "GetModel"])
def test_bytes_that_are_no_message_are_refused(caller: Caller, method: str) -> None:
    call: Any = caller.channel.unary_unary(f"/tickcell.v1.ModelService/{method}")
    with refused_for("MALFORMED"):
        caller.call(call, b"\xff")


@pytest.mark.contract("grpc.health.v1")
@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_says_that_it_serves(caller: Caller, service: str) -> None:
    check: Any = caller.channel.unary_unary("/grpc.health.v1.Health/Check")
    # Its messages by hand, of one field each: the service's name, and the status.
    name = service.encode()
    asked = bytes([1 << 3 | 2, len(name)]) + name if name else b""
    assert check(asked, timeout=PATIENCE_S) == bytes([1 << 3, SERVING])
