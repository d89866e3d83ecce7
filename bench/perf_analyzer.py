"""Measures with Triton's own tool: perf_analyzer in sequence mode, over calls and streams.

    python -m bench.perf_analyzer [--concurrency 1,8,32] [--workers 1,2] [--triton] [--floor]

The tool comes out of the tritonclient wheel of 2.51.0, the last that has it. It wants two
libraries, of another wheel and of a Debian package. All three are fetched once, into
`build/perf_analyzer`.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from typing import TYPE_CHECKING, NamedTuple

import click

from bench import floor, machine, triton_server
from bench.serving import Serving
from bench.triton_server import free_port
from tickcell.cli.server_process import ServerProcess
from tickcell.model import Bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOOL = pathlib.Path("build/perf_analyzer")
_WHEELS = ("tritonclient==2.51.0", "nvidia-cuda-runtime-cu12")
_PACKAGE = "libb64-0d"
_PLATFORM = ("--platform", "manylinux1_x86_64", "--platform", "manylinux2014_x86_64")
# Of different frames, each as long as the golden lets it be.
_SEQUENCES = 16
_STEPS = 100
_TRITON = "Triton"
# Far longer than one measurement takes.
_LONGEST_S = 180.0
# How often the processor time of a server is looked at.
_SAMPLE_S = 0.1


class Rates(NamedTuple):
    """What one run measured.

    Attributes:
      requests_s: requests a second.
      p50_us: the median latency.
      p99_us: its 99th percentile.
      cpu_us: the server's processor time a request; 0 where it is not known.
    """

    requests_s: float
    p50_us: float
    p99_us: float
    cpu_us: float

    def __str__(self) -> str:
        return f"{self.requests_s:11,.0f}{self.p50_us:9,.0f}{self.p99_us:9,.0f}{self.cpu_us:9,.0f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--concurrency", default="1,8", show_default=True, help="Sequences at a time.")
@click.option("--workers", default="1", show_default=True, help="Servers of so many processes.")
@click.option("--triton", "has_triton", is_flag=True, help="Triton beside them, in turns.")
@click.option("--floor", "has_floor", is_flag=True, help="The plainest gRPC servers, too.")
@click.option("--address", help="A server to measure. [default: those that are started here]")
@click.option("--runs", type=click.IntRange(min=1), default=1, show_default=True, help="Of each.")
@click.option(
    "--seconds", type=click.IntRange(min=1), default=5, show_default=True, help="One measurement."
)
def main(
    concurrency: str,
    workers: str,
    has_triton: bool,
    has_floor: bool,
    address: str | None,
    runs: int,
    seconds: int,
) -> None:
    """Measures a tick by perf_analyzer in sequence mode, with a batch of one.

    Each figure is the median of the runs; the servers take turns, and all runs are shown.
    """
    click.echo(machine.describe())
    click.echo(f"load before: {machine.load()}\n")
    tool = fetched(_TOOL)
    bundle = Bundle.load()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tickcell-bench-"))
        )
        if address:
            servers = {"server": Serving(address, 0)}
        else:
            servers = _started(stack, directory, workers)
        if has_floor:
            upstream = next(iter(servers.values())).address
            for kind in floor.KINDS:
                servers[f"bare {kind}"] = stack.enter_context(floor.serving(kind, upstream))
        if has_triton:
            servers[_TRITON] = stack.enter_context(triton_server.serving(bundle))
        frames = directory / "frames.json"
        frames.write_text(json.dumps(_recordings(bundle)), encoding="utf-8")
        click.echo(
            f"{'':8}{'sequences':>10}  {'':12}{'requests/s':>11}{'p50 us':>9}{'p99 us':>9}"
            f"{'cpu us':>9}{'of Triton' if has_triton else '':>11}  each run"
        )
        for kind in ("unary", "stream"):
            for count in map(int, concurrency.split(",")):
                found: dict[str, list[Rates]] = {name: [] for name in servers}
                for _ in range(runs):
                    for name, where in servers.items():
                        rates = _measure(tool, where, bundle, frames, kind, count, seconds)
                        found[name] += [] if rates is None else [rates]
                _show(kind, count, found)
    click.echo(f"\nload after: {machine.load()}")


def _started(
    stack: contextlib.ExitStack, directory: pathlib.Path, workers: str
) -> dict[str, Serving]:
    """Starts a server for each number of workers; returns them by name."""
    servers = {}
    for count in workers.split(","):
        place = directory / f"workers-{count}"
        place.mkdir()
        process = ServerProcess(
            place, "--oip", "on", "--workers", count, listen=f"127.0.0.1:{free_port()}"
        )
        stack.enter_context(process)
        name = f"{count} worker" + "s" * (count != "1")
        servers[name] = Serving(process.address, process.pid)
    return servers


def _show(kind: str, count: int, found: dict[str, list[Rates]]) -> None:
    """Prints what was measured of each server, and the ratio to Triton where it is there."""
    medians = {
        name: Rates(*map(statistics.median, zip(*rates, strict=True)))
        for name, rates in found.items()
        if rates
    }
    for name in found:
        if name not in medians:
            click.echo(f"{kind:8}{count:10}  {name:12}   not steady enough to measure")
            continue
        ratio = ""
        if name != _TRITON and _TRITON in medians:
            ratio = f"{medians[name].requests_s / medians[_TRITON].requests_s:.2f}"
        each = " ".join(f"{rates.requests_s:,.0f}" for rates in found[name])
        click.echo(f"{kind:8}{count:10}  {name:12}{medians[name]}{ratio:>11}  {each}")


def _recordings(bundle: Bundle) -> dict[str, list[list[dict[str, list[float]]]]]:
    """Returns sequences of frames as the tool reads them; its own would be random bytes."""
    frames = bundle.golden.frames
    starts = range(0, min(len(frames) - _STEPS, _SEQUENCES * _STEPS), _STEPS)
    return {
        "data": [
            [{"frames": frame.tolist()} for frame in frames[start : start + _STEPS]]
            for start in starts
        ]
    }


def _measure(
    tool: pathlib.Path,
    server: Serving,
    bundle: Bundle,
    frames: pathlib.Path,
    kind: str,
    count: int,
    seconds: int,
) -> Rates | None:
    """Runs the tool; None where its windows differ too much from each other."""
    report = frames.with_name(f"{kind}-{count}.csv")
    command = [
        *(str(tool), "-m", bundle.card.name, "-u", server.address, "-i", "grpc", "-b", "1"),
        *(["--streaming"] if kind == "stream" else ["--async"]),
        *("--input-data", str(frames), "--concurrency-range", str(count)),
        # A sequence is one of the recordings, and what ends one is END.
        *("--sequence-length", str(_STEPS), "--num-of-sequences", str(count)),
        *("--measurement-interval", str(1000 * seconds), "--stability-percentage", "50"),
        *("--percentile", "50", "-f", str(report)),
    ]
    libraries = ":".join(sorted({str(path.parent) for path in tool.parent.rglob("*.so.*")}))
    with subprocess.Popen(
        command,
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        # A tool whose server dies waits for good.
        stop = threading.Timer(_LONGEST_S, running.kill)
        stop.start()
        busy = _busy(server, running) if server.pid else 0.0
        said, _ = running.communicate()
        stop.cancel()
    if "Failed to obtain stable measurement" in said:
        return None
    if running.returncode or not report.exists():
        raise click.ClickException(f"perf_analyzer failed:\n{said}")
    (row,) = csv.DictReader(report.read_text(encoding="utf-8").splitlines())
    requests_s = float(row["Inferences/Second"])
    return Rates(
        requests_s, float(row["p50 latency"]), float(row["p99 latency"]), 1e6 * busy / requests_s
    )


def _busy(server: Serving, running: subprocess.Popen[str]) -> float:
    """Returns how many processors a server uses, by the median, while the tool runs."""
    found = []
    at_ns, cpu_ns = time.perf_counter_ns(), server.cpu_ns()
    while running.poll() is None:
        time.sleep(_SAMPLE_S)
        before, at_ns = at_ns, time.perf_counter_ns()
        used, cpu_ns = cpu_ns, server.cpu_ns()
        found.append((cpu_ns - used) / (at_ns - before))
    return statistics.median(found)


def fetched(directory: pathlib.Path) -> pathlib.Path:
    """Returns the tool, which is fetched where it is not there yet."""
    directory = directory.absolute()
    tool = directory / "perf_analyzer"
    if tool.exists():
        return tool
    directory.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *_PLATFORM]
    with _told_of_failure():
        for wheel in _WHEELS:
            only = ["--only-binary", ":all:", "--dest", str(directory)]
            subprocess.run([*pip, *only, wheel], check=True)
        subprocess.run(["apt-get", "download", _PACKAGE], cwd=directory, check=True)
        for package in directory.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, directory], check=True)
    for path in directory.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(directory)
    (found,) = directory.glob("*/data/bin/perf_analyzer")
    found.chmod(0o755)
    return found.rename(tool)


@contextlib.contextmanager
def _told_of_failure() -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        raise click.ClickException(
            f"perf_analyzer could not be fetched: {error}. It needs Linux on x86-64, a package "
            f"index with {' and '.join(_WHEELS)}, and apt-get with {_PACKAGE}."
        ) from error


if __name__ == "__main__":
    main()
