"""Triton with the same cell behind its sequence batcher, to be measured beside tickcell.

The server comes out of the nvidia-pytriton wheel, which is fetched once into `build/triton`
and holds `tritonserver` with its Python backend. The model is `bench/triton_model.py`.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from typing import TYPE_CHECKING

import click
import grpc

from bench.serving import Serving
from tickcell.model import Bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHEEL = "nvidia-pytriton==0.7.0"
_PLACE = pathlib.Path("build/triton")
_START_S = 60.0

# The Python that runs it knows of no paths but its own.
_MODEL = """
import sys
sys.path.extend({path})
from bench.triton_model import TritonPythonModel
"""

# One instance, since one process steps one cell; a slot for each sequence.
_CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 32
input [{{ name: "frames" data_type: TYPE_FP32 dims: [{sensors}] }}]
output [{{ name: "{output}" data_type: TYPE_FP32 dims: [{size}] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
sequence_batching {{ max_sequence_idle_microseconds: 60000000 oldest {{
  max_candidate_sequences: 64 max_queue_delay_microseconds: 0
}} }}
"""


@contextlib.contextmanager
def serving(bundle: Bundle) -> Iterator[Serving]:
    """Runs Triton with a bundle's cell.

    Raises:
      click.ClickException: it cannot be fetched, or does not start.
    """
    home = _fetched(_PLACE.absolute())
    with tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory:
        repository, log = pathlib.Path(directory) / "models", pathlib.Path(directory) / "log"
        _write_repository(repository, bundle)
        port = free_port()
        command = [
            *(str(home / "bin/tritonserver"), "--model-repository", str(repository)),
            *("--backend-directory", str(home / "backends"), "--grpc-port", str(port)),
            *("--grpc-address", "127.0.0.1", "--allow-http", "false", "--allow-metrics", "false"),
            # With its default it dies under 32 streams.
            *("--grpc-infer-allocation-pool-size", "1024"),
        ]
        # The stub that runs the model lies beside the backend that looks for it.
        stub = home / "python_backend_stubs" / "{}.{}".format(*sys.version_info)
        shutil.copy(stub / "triton_python_backend_stub", home / "backends/python")
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait(process, f"127.0.0.1:{port}", log)
            yield Serving(f"127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


def _write_repository(repository: pathlib.Path, bundle: Bundle) -> None:
    (output,) = bundle.interface.heads
    model = repository / bundle.card.name
    (model / "1").mkdir(parents=True)
    (model / "1/model.py").write_text(_MODEL.format(path=_import_path()), encoding="utf-8")
    config = _CONFIG.format(
        name=bundle.card.name,
        sensors=bundle.interface.sensor_count,
        output=output.name,
        size=output.size,
    )
    (model / "config.pbtxt").write_text(config, encoding="utf-8")


def _import_path() -> list[str]:
    """Returns where this checkout and what it needs is imported from."""
    checkout = pathlib.Path(__file__).resolve().parents[1]
    installed = [path for path in sys.path if path.endswith("site-packages")]
    return [str(checkout), str(checkout / "model"), *installed]


def _wait(process: subprocess.Popen[bytes], address: str, log: pathlib.Path) -> None:
    """Waits until Triton listens, which it does once its models are loaded."""
    deadline_s = time.monotonic() + _START_S
    with grpc.insecure_channel(address) as channel:
        ready = grpc.channel_ready_future(channel)
        while time.monotonic() < deadline_s and process.poll() is None:
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.2)
                return
    raise click.ClickException(f"Triton did not start:\n{log.read_text()}")


def free_port() -> int:
    """Returns a port that nobody listens on by now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _fetched(directory: pathlib.Path) -> pathlib.Path:
    """Returns where Triton is, which is fetched where it is not there yet."""
    home = directory / "pytriton/tritonserver"
    if not (home / "bin/tritonserver").exists():
        directory.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        try:
            subprocess.run([*pip, "--dest", str(directory), _WHEEL], check=True)
        except subprocess.CalledProcessError as error:
            raise click.ClickException(
                f"Triton could not be fetched: {error}. It needs Linux on x86-64 and a package "
                f"index with {_WHEEL}."
            ) from error
        for path in directory.glob("*.whl"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(directory)
        for program in (home / "bin/tritonserver", *home.glob("python_backend_stubs/*/*")):
            program.chmod(0o755)
    return home
