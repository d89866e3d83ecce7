"""What the service shows of the server and its models, and what it says of the rest."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tritonclient.grpc import service_pb2 as pb

from tickcell.conformance.peer import SERVICE, Peer, Refused, request

LIFE = "00000000-0000-0000-0000-000000000001"
METHODS = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods


def test_server_is_live_and_ready(peer: Peer) -> None:
    assert peer.ask("ServerLive").live
    assert peer.ask("ServerReady").ready


def test_server_says_its_name_version_and_extensions(peer: Peer) -> None:
    shown = peer.ask("ServerMetadata")
    assert (shown.name, shown.version) == ("tickcell", importlib.metadata.version("tickcell"))
    assert list(shown.extensions) == ["sequence", "statistics", "model_configuration"]


@pytest.mark.parametrize(
    ("name", "version", "is_ready"),
    [
        *(("counting", "", True), ("counting", "1", True), ("counting", "2", False)),
        *(("worded", "", False), ("worded", "first", False), ("nobody", "", False)),
    ],
)
def test_model_is_ready_where_it_is_served(
    peer: Peer, name: str, version: str, is_ready: bool
) -> None:
    assert peer.ask("ModelReady", name=name, version=version).ready == is_ready


def test_model_is_shown_with_all_its_versions(peer: Peer) -> None:
    shown = peer.ask("ModelMetadata", name="other")
    assert (shown.name, list(shown.versions), shown.platform) == ("other", ["1", "2"], "tickcell")
    tensors = [
        (each.name, each.datatype, list(each.shape)) for each in (*shown.inputs, *shown.outputs)
    ]
    assert tensors == [("frames", "FP32", [-1, 1]), ("output", "FP32", [-1, 1])]


def test_config_is_one_of_a_sequence_batcher(peer: Peer) -> None:
    config = peer.ask("ModelConfig", name="counting").config
    assert (config.name, config.max_batch_size) == ("counting", 1)
    assert config.HasField("sequence_batching")
    assert config.sequence_batching.max_sequence_idle_microseconds == 600 * 10**6
    assert [list(each.dims) for each in (*config.input, *config.output)] == [[1], [1]]
    assert config.parameters["rate_hz"].string_value == "50"


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("counting", "2"), ("worded", "")])
def test_model_that_is_not_served_is_refused(
    peer: Peer, method: str, name: str, version: str
) -> None:
    with pytest.raises(Refused, match=f"Request for unknown model: '{name}'") as refused:
        peer.ask(method, name=name, version=version)
    assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")


def statistics(peer: Peer, name: str = "counting", version: str = "") -> Any:
    (shown,) = peer.ask("ModelStatistics", name=name, version=version).model_stats
    return shown


class TestStatistics:
    def test_requests_are_counted_by_version(self, peer: Peer) -> None:
        for version in ("1", "2", "2"):
            peer.infer(7, model="other", model_version=version, start=True)
        shown = peer.ask("ModelStatistics", name="other").model_stats
        assert [(each.version, each.inference_count) for each in shown] == [("1", 1), ("2", 2)]
        names = [(each.name, each.version) for each in peer.ask("ModelStatistics").model_stats]
        assert names == [("counting", "1"), ("other", "1"), ("other", "2")]

    def test_what_was_answered_before_is_no_execution(self, peer: Peer) -> None:
        for _ in range(3):
            peer.infer(7, start=True, life=LIFE, step=0)
        for frames in ([1.0], [1.0, 2.0], [1.0, 2.0]):
            peer.infer(7, frames, life=LIFE, step=1)
        for _ in range(2):
            peer.infer(7, end=True, life=LIFE, step=3)
        shown = statistics(peer)
        assert (shown.inference_count, shown.execution_count) == (8, 4)
        assert shown.inference_stats.cache_hit.count == 4

    def test_refused_requests_count_as_failures_alone(self, peer: Peer) -> None:
        peer.infer(7, start=True)
        for options in ({"sequence": 8}, {"sequence": 7, "readings": [501.0]}):
            with pytest.raises(Refused):
                peer.infer(**options)
        shown = statistics(peer).inference_stats
        assert (shown.success.count, shown.fail.count) == (1, 2)
        assert shown.fail.ns > 0

    def test_times_are_parts_of_the_whole(self, peer: Peer) -> None:
        before = statistics(peer)
        assert (before.inference_count, before.last_inference, len(before.batch_stats)) == (0, 0, 0)
        peer.infer(7, start=True)
        for _ in range(20):
            peer.infer(7, np.zeros((1, 16, 1)))
        shown = statistics(peer)
        stats = shown.inference_stats
        computing = (stats.compute_input, stats.compute_infer, stats.compute_output)
        parts = (stats.queue, *computing)
        assert all(part.count == 21 and part.ns > 0 for part in parts)
        assert sum(part.ns for part in parts) == stats.success.ns
        # Each of them takes longer than a microsecond, and all together less than a minute.
        assert 21_000 < stats.success.ns < 60 * 10**9
        (batch,) = shown.batch_stats
        assert (batch.batch_size, batch.compute_infer) == (1, stats.compute_infer)
        assert shown.last_inference > 1_700_000_000_000


class TestRepository:
    def test_index_has_every_model_and_why_one_is_not_served(self, peer: Peer) -> None:
        listed = peer.ask("RepositoryIndex").models
        assert [(each.name, each.version, each.state) for each in listed] == [
            ("counting", "1", "READY"),
            ("other", "1", "READY"),
            ("other", "2", "READY"),
            ("worded", "first", "UNAVAILABLE"),
        ]
        assert listed[3].reason == (
            "the version 'first' is not a whole number, and is served natively only"
        )
        ready = peer.ask("RepositoryIndex", ready=True).models
        assert [each.name for each in ready] == ["counting", "other", "other"]

    @pytest.mark.parametrize(
        "method", ["RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"]
    )
    def test_there_is_one_repository(self, peer: Peer, method: str) -> None:
        with pytest.raises(Refused, match="repository_name: got 'mine', expected none"):
            peer.ask(method, repository_name="mine")

    @pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
    def test_models_are_neither_loaded_nor_unloaded_by_call(self, peer: Peer, method: str) -> None:
        with pytest.raises(Refused, match="loads and unloads no models by call") as refused:
            peer.ask(method, model_name="counting")
        assert refused.value.code == "INVALID_ARGUMENT"
        assert peer.infer(7, start=True) == [1.0]


@pytest.mark.parametrize(
    "method",
    [each.name for each in METHODS if "SharedMemory" in each.name]
    + ["TraceSetting", "LogSettings"],
)
def test_what_is_not_served_is_refused_with_a_sentence(peer: Peer, method: str) -> None:
    with pytest.raises(
        Refused, match=r"shared memory is not supported\.|not by calls\."
    ) as refused:
        peer.ask(method)
    assert refused.value.code == "UNIMPLEMENTED"


def test_contract_is_shown_by_reflection_to_the_public_client(peer: Peer) -> None:
    database = ProtoReflectionDescriptorDatabase(peer.channel)
    assert SERVICE in database.get_services()
    found = database.FindFileContainingSymbol(SERVICE)
    (service,) = found.service
    assert {each.name for each in service.method} == {each.name for each in METHODS}
    assert "model_config.proto" in found.dependency
    assert database.FindFileByName("model_config.proto").package == "inference"


def test_health_of_the_service_is_known(peer: Peer) -> None:
    check: Any = peer.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"\x0a" + bytes([len(SERVICE)]) + SERVICE.encode()) == b"\x08\x01"


def test_model_that_only_another_protocol_serves_is_served_there(peer: Peer, native: Any) -> None:
    assert native.create(model="worded").model_version == "first"
    with pytest.raises(Refused, match="'first' is not a whole number"):
        peer.send(request(7, model="worded", start=True))
