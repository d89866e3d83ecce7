"""What the server says that it serves, and that it is there."""

from __future__ import annotations

from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protocol.caller import PATIENCE_S, Caller, Refused
from tickcell.model import Bundle
from tickcell.v1 import model_service_pb2 as pb

SERVICES = ("tickcell.v1.SessionService", "tickcell.v1.ModelService")


def test_model_is_shown_as_its_bundle_has_it(caller: Caller, bundle: Bundle) -> None:
    card, interface = bundle.card, bundle.interface
    wanted = pb.GetModelRequest(name=card.name, version=card.version)
    model = caller.call(caller.models.GetModel, wanted).model
    assert (model.name, model.version, model.rate_hz) == (card.name, card.version, card.rate_hz)
    shown = [(each.name, each.size, tuple(each.classes)) for each in model.outputs]
    assert shown == [(head.name, head.size, head.classes) for head in interface.heads]
    for output, head in zip(model.outputs, interface.heads, strict=True):
        said = card.outputs[head.name]
        assert pb.OutputKind.Name(output.kind) == f"OUTPUT_KIND_{head.kind.upper()}"
        assert (output.unit, output.meaning) == (said.unit, said.meaning)
        assert (output.threshold if output.HasField("threshold") else None) == said.threshold
    assert (model.mask_value if model.HasField("mask_value") else None) == interface.mask_value
    assert model.warm_up_step_count == card.warm_up_steps
    assert tuple(model.output_names) == interface.output_names
    assert [
        (sensor.name, sensor.unit, sensor.min_reading, sensor.max_reading, sensor.whole)
        for sensor in model.sensors
    ] == [
        (sensor.name, sensor.unit, sensor.min_reading, sensor.max_reading, sensor.whole)
        for sensor in interface.sensors
    ]
    assert [
        (tensor.name, tuple(tensor.dimensions), tensor.dtype) for tensor in model.state_tensors
    ] == [(tensor.name, tensor.shape, tensor.dtype) for tensor in interface.state_tensors]


@pytest.mark.parametrize("size", [1, 1000])
def test_pages_list_the_model_once(caller: Caller, bundle: Bundle, size: int) -> None:
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
    assert (bundle.card.name, bundle.card.version) in listed


@pytest.mark.parametrize("name", ["nothing-of-ours", "x" * 100_000], ids=["short", "huge"])
@pytest.mark.parametrize("field", ["name", "version"])
def test_model_that_is_not_served_is_unknown(caller: Caller, name: str, field: str) -> None:
    with pytest.raises(Refused) as caught:
        caller.call(caller.models.GetModel, pb.GetModelRequest(**{field: name}))
    assert caught.value.reason == "MODEL_UNKNOWN"


@pytest.mark.parametrize("method", ["ListModels", "GetModel"])
def test_bytes_that_are_no_message_are_refused(caller: Caller, method: str) -> None:
    call: Any = caller.channel.unary_unary(f"/tickcell.v1.ModelService/{method}")
    with pytest.raises(Refused) as caught:
        caller.call(call, b"\xff")
    assert caught.value.reason == "MALFORMED"


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_says_that_it_serves(caller: Caller, service: str) -> None:
    health = health_pb2_grpc.HealthStub(caller.channel)
    checked = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
    assert checked.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_and_describes_the_services(caller: Caller) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(caller.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
            for service in SERVICES
        ),
    ]
    listed, *described = reflection.ServerReflectionInfo(iter(requests), timeout=PATIENCE_S)
    assert set(SERVICES) < {service.name for service in listed.list_services_response.service}
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in described)
