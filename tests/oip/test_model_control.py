"""Models are loaded and unloaded by calls of this protocol, under sequences that go on."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from doubles.bundle_variant import variant
from doubles.in_process_server import InProcessServer
from tickcell.cli import comparison
from tickcell.conformance.peer import Peer, Refused, outputs
from tickcell.model import Bundle
from tickcell.server.store import MemoryStore


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    bundle = Bundle.load()
    return {"1": bundle, "2": variant(bundle, "2")}


@pytest.fixture(scope="module")
def frames(bundles: dict[str, Bundle]) -> NDArray[np.float32]:
    return bundles["1"].golden.frames[:4]


@pytest.fixture
def models(tmp_path: pathlib.Path, bundles: dict[str, Bundle]) -> pathlib.Path:
    for version, bundle in bundles.items():
        bundle.write(tmp_path / "models" / "drive" / version)
    return tmp_path / "models"


@pytest.fixture
def records() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def peer(models: pathlib.Path, records: MemoryStore) -> Iterator[Peer]:
    """Of a server that is controlled by calls, and has loaded nothing."""
    with (
        InProcessServer([], records, repository=models, control="explicit") as server,
        Peer(server.address) as opened,
    ):
        yield opened


def infer(peer: Peer, frame: NDArray[np.float32], *, start: bool = False, **fields: Any) -> Any:
    """Sends one frame of the sequence 7."""
    message = pb.ModelInferRequest(model_name="drive", **fields)
    (port,) = peer.ask("ModelMetadata", name="drive").inputs
    message.inputs.add(name=port.name, datatype="FP32", shape=(1, len(frame)))
    message.raw_input_contents.append(frame.astype("<f4").tobytes())
    message.parameters["sequence_id"].int64_param = 7
    message.parameters["sequence_start"].bool_param = start
    return peer.call("ModelInfer", message)


def test_index_has_what_lies_there_and_why_it_is_not_served(
    peer: Peer, models: pathlib.Path
) -> None:
    def listed(**fields: Any) -> list[tuple[str, str]]:
        return [(each.version, each.state) for each in peer.ask("RepositoryIndex", **fields).models]

    assert listed() == [("1", "UNAVAILABLE"), ("2", "UNAVAILABLE")]
    peer.ask("RepositoryModelLoad", model_name="drive")
    assert listed() == [("2", "READY"), ("1", "UNAVAILABLE")]
    assert listed(ready=True) == [("2", "READY")]
    (unloaded,) = [each for each in peer.ask("RepositoryIndex").models if each.version == "1"]
    assert unloaded.reason == "available"


def test_load_serves_the_newest_and_unload_no_new_sequence(
    peer: Peer, bundles: dict[str, Bundle], frames: NDArray[np.float32]
) -> None:
    assert not peer.ask("ModelReady", name="drive").ready
    peer.ask("RepositoryModelLoad", model_name="drive")
    assert list(peer.ask("ModelMetadata", name="drive").versions) == ["2"]
    assert infer(peer, frames[0], start=True).model_version == "2"
    peer.ask("RepositoryModelUnload", model_name="drive")
    assert not peer.ask("ModelReady", name="drive").ready
    with pytest.raises(Refused, match="unknown model"):
        peer.ask("ModelMetadata", name="drive")
    peer.ask("RepositoryModelLoad", model_name="drive")
    # The sequence has gone on all the while.
    expected = comparison.loop(bundles["2"].cell(), frames[:2])
    assert outputs(infer(peer, frames[1])) == expected[1].tolist()


def test_sequence_goes_on_at_a_server_that_has_not_loaded_its_version(
    peer: Peer,
    models: pathlib.Path,
    records: MemoryStore,
    bundles: dict[str, Bundle],
    frames: NDArray[np.float32],
) -> None:
    peer.ask("RepositoryModelLoad", model_name="drive")
    infer(peer, frames[0], start=True)
    (models / "drive" / "1").rename(models / ".1")
    with (
        InProcessServer([], records, repository=models, control="explicit") as server,
        Peer(server.address) as other,
    ):
        (models / ".1").rename(models / "drive" / "1")
        other.ask("RepositoryModelLoad", model_name="drive")
        expected = comparison.loop(bundles["2"].cell(), frames[:2])
        assert outputs(infer(other, frames[1])) == expected[1].tolist()


def test_model_that_is_not_there_or_broken_is_refused(peer: Peer, models: pathlib.Path) -> None:
    with pytest.raises(Refused, match="road is not in the repository") as refused:
        peer.ask("RepositoryModelLoad", model_name="road")
    assert refused.value.code == "NOT_FOUND"
    (models / "drive" / "2" / "card.json").write_text("{}")
    with pytest.raises(Refused, match="drive 2 is not loaded"):
        peer.ask("RepositoryModelLoad", model_name="drive")


@pytest.mark.parametrize("name", ["config", "file:1/model.onnx"])
def test_parameters_that_would_change_a_model_are_refused(peer: Peer, name: str) -> None:
    message = pb.RepositoryModelLoadRequest(model_name="drive")
    message.parameters[name].string_param = "{}"
    with pytest.raises(Refused, match="a model is served as it is in the repository"):
        peer.call("RepositoryModelLoad", message)
    assert not peer.ask("ModelReady", name="drive").ready
