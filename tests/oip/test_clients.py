"""The public clients, as their users call them: outputs are the plain loop's, to the bit."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import venv
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

import documents
from tickcell.cli import comparison
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.conformance.peer import MUST_START, PATIENCE_S
from tickcell.model import Bundle

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "triton.md"
STEPS = 100
# As `frames`; the last one may be shorter.
CHUNK = 7

Sequence = int | str
Form = Callable[[str, np.ndarray, Sequence, int], list[np.ndarray]]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def frames(bundle: Bundle) -> np.ndarray:
    return bundle.golden.frames[:STEPS]


@pytest.fixture(scope="module")
def expected(bundle: Bundle, frames: np.ndarray) -> np.ndarray:
    return comparison.loop(bundle.cell(), frames)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ServerProcess(tmp_path_factory.mktemp("server"), listen="127.0.0.1:0") as server:
        yield server.address


def requests(
    frames: np.ndarray, sequence: Sequence, chunk: int, inputs: Any
) -> Iterator[dict[str, Any]]:
    """Yields the arguments of each request of a sequence: single frames, or chunks of them."""
    for first in range(0, len(frames), chunk):
        part = frames[first : first + chunk]
        shaped = part[np.newaxis] if chunk > 1 else part
        tensor = inputs("frames", list(shaped.shape), "FP32")
        tensor.set_data_from_numpy(shaped)
        yield {
            "model_name": "drive",
            "inputs": [tensor],
            "request_id": str(first),
            "sequence_id": sequence,
            "sequence_start": first == 0,
            "sequence_end": first + chunk >= len(frames),
        }


def by_calls(address: str, frames: np.ndarray, sequence: Sequence, chunk: int) -> list[np.ndarray]:
    with triton.InferenceServerClient(address) as client:
        return [
            client.infer(**asked).as_numpy("aggressive")
            for asked in requests(frames, sequence, chunk, triton.InferInput)
        ]


def by_a_stream(
    address: str, frames: np.ndarray, sequence: Sequence, chunk: int
) -> list[np.ndarray]:
    """Sends all of them before it reads one answer."""
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    got = []
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        sent = list(requests(frames, sequence, chunk, triton.InferInput))
        for asked in sent:
            client.async_stream_infer(**asked)
        for asked in sent:
            result, error = answers.get(timeout=PATIENCE_S)
            assert error is None, error
            assert result.get_response().id == asked["request_id"]
            got.append(result.as_numpy("aggressive"))
        client.stop_stream()
    return got


def by_aio_calls(
    address: str, frames: np.ndarray, sequence: Sequence, chunk: int
) -> list[np.ndarray]:
    async def infer() -> list[np.ndarray]:
        async with triton_aio.InferenceServerClient(address) as client:
            return [
                (await client.infer(**asked)).as_numpy("aggressive")
                for asked in requests(frames, sequence, chunk, triton_aio.InferInput)
            ]

    return asyncio.run(infer())


def by_an_aio_stream(
    address: str, frames: np.ndarray, sequence: Sequence, chunk: int
) -> list[np.ndarray]:
    async def each() -> AsyncIterator[dict[str, Any]]:
        for asked in requests(frames, sequence, chunk, triton_aio.InferInput):
            yield asked

    async def infer() -> list[np.ndarray]:
        got = []
        async with triton_aio.InferenceServerClient(address) as client:
            async for result, error in client.stream_infer(each()):
                assert error is None, error
                got.append(result.as_numpy("aggressive"))
        return got

    return asyncio.run(infer())


FORMS: dict[str, Form] = {
    "calls": by_calls,
    "stream": by_a_stream,
    "aio calls": by_aio_calls,
    "aio stream": by_an_aio_stream,
}


@pytest.mark.parametrize("chunk", [1, CHUNK])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_those_of_the_plain_loop_and_of_the_native_client(
    address: str, frames: np.ndarray, expected: np.ndarray, form: str, chunk: int
) -> None:
    got = FORMS[form](address, frames, f"{form} {chunk}", chunk)
    outputs = np.concatenate([answer.reshape(-1, 1) for answer in got])
    assert outputs.dtype == np.float32
    assert outputs.tobytes() == expected.tobytes()
    with Session.create(address) as session:
        assert session.steps(frames).tobytes() == outputs.tobytes()


def test_sequences_of_all_forms_go_side_by_side(
    address: str, frames: np.ndarray, expected: np.ndarray
) -> None:
    async def infer() -> list[list[np.ndarray]]:
        works = [
            asyncio.to_thread(form, address, frames, sequence, 1)
            for form in FORMS.values()
            for sequence in (len(form.__name__), str(len(form.__name__)), form.__name__)
        ]
        return list(await asyncio.gather(*works))

    for got in asyncio.run(infer()):
        assert np.concatenate(got).tobytes() == expected.tobytes()


def test_refusal_is_the_exception_that_clients_match(address: str, frames: np.ndarray) -> None:
    tensor = triton.InferInput("frames", [1, 10], "FP32")
    tensor.set_data_from_numpy(frames[:1])
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(InferenceServerException, match=MUST_START) as refused:
            client.infer("drive", [tensor], sequence_id=404)
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
        answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("drive", [tensor], sequence_id=404, request_id="r")
        _, error = answers.get(timeout=PATIENCE_S)
        assert MUST_START in str(error)
        client.async_stream_infer("drive", [tensor], sequence_id=404, sequence_start=True)
        result, error = answers.get(timeout=PATIENCE_S)
        assert error is None
        assert result.as_numpy("aggressive").shape == (1, 1)
        client.stop_stream()


def test_what_a_client_asks_of_a_server_is_answered(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("drive")
        assert client.get_server_metadata(as_json=True)["name"] == "tickcell"
        config = client.get_model_config("drive", as_json=True)["config"]
        assert config["input"] == [{"name": "frames", "data_type": "TYPE_FP32", "dims": ["10"]}]
        assert client.get_model_metadata("drive").versions == ["1"]
        assert client.get_model_repository_index().models[0].state == "READY"
        assert client.get_inference_statistics("drive").model_stats[0].version == "1"
        with pytest.raises(InferenceServerException, match="no models by call"):
            client.load_model("drive", config="{}")


def test_python_of_the_document_gives_the_outputs_of_the_plain_loop(
    address: str, frames: np.ndarray, expected: np.ndarray
) -> None:
    acted: list[np.ndarray] = []
    names: dict[str, Any] = {"recording": frames[:10], "act": acted.append}
    blocks = [
        each.code for each in documents.Document.read(DOCUMENT).blocks if each.language == "python"
    ]
    for code in blocks:
        acted.clear()
        exec(code.replace('"localhost:50061"', repr(address)), names)
        assert np.stack(acted).tobytes() == expected[:10].tobytes()
    assert len(blocks) == 2
    names["client"].close()


@pytest.mark.slow
def test_kserves_client_gives_the_outputs_of_the_plain_loop(
    address: str, frames: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    """In an environment of its own: what it asks for cannot be had beside our constraints."""
    venv.create(tmp_path / "env", with_pip=True, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "kserve"], check=True)
    given, got = tmp_path / "frames.npy", tmp_path / "outputs.npy"
    np.save(given, frames)
    program = Path(__file__).with_name("kserve_client.py")
    subprocess.run([python, program, address, given, got], check=True)
    assert np.load(got).tobytes() == expected.tobytes()
