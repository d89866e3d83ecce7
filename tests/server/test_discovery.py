"""What a server says that it serves: its models as their bundles have them, and its services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from doubles.in_process_server import InProcessServer
from tickcell.conformance.caller import PATIENCE_S, Caller
from tickcell.model import Bundle
from tickcell.server.catalogue import ServedModel
from tickcell.v1 import model_service_pb2 as pb

SERVICES = ("tickcell.v1.SessionService", "tickcell.v1.ModelService")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def caller(bundle: Bundle) -> Iterator[Caller]:
    with InProcessServer([ServedModel.load(bundle)]) as server, Caller(server.address) as opened:
        yield opened


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
