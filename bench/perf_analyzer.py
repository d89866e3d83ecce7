"""Measures with Triton's own tool: perf_analyzer in sequence mode, over calls and streams.

    python -m bench.perf_analyzer [--concurrency 1,8,32] [--address HOST:PORT]

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
import subprocess
import sys
import tempfile
import zipfile
from typing import TYPE_CHECKING, NamedTuple

import click

from bench import machine, serving
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


class Rates(NamedTuple):
    """What one run measured.

    Attributes:
      requests_s: requests a second.
      p50_us: the median latency.
      p99_us: its 99th percentile.
    """

    requests_s: float
    p50_us: float
    p99_us: float

    def __str__(self) -> str:
        return f"{self.requests_s:12,.0f}{self.p50_us:10,.0f}{self.p99_us:10,.0f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--concurrency", default="1,8", show_default=True, help="Sequences at a time.")
@click.option("--address", help="A server to measure. [default: one that is started here]")
@click.option(
    "--seconds", type=click.IntRange(min=1), default=5, show_default=True, help="One measurement."
)
def main(concurrency: str, address: str | None, seconds: int) -> None:
    """Measures a tick by perf_analyzer in sequence mode, with a batch of one."""
    click.echo(machine.describe())
    click.echo(f"load before: {machine.load()}\n")
    tool = fetched(_TOOL)
    bundle = Bundle.load()
    server = contextlib.nullcontext(address) if address else serving.served()
    with server as where, tempfile.TemporaryDirectory(prefix="tickcell-bench-") as directory:
        frames = pathlib.Path(directory) / "frames.json"
        frames.write_text(json.dumps(_recordings(bundle)), encoding="utf-8")
        click.echo(f"{'':10}{'sequences':>10}{'requests/s':>12}{'p50 us':>10}{'p99 us':>10}")
        for kind in ("unary", "stream"):
            for count in map(int, concurrency.split(",")):
                found = _measure(tool, where, bundle, frames, kind, count, seconds)
                shown = "   not steady enough to measure" if found is None else str(found)
                click.echo(f"{kind:10}{count:10}{shown}")
    click.echo(f"\nload after: {machine.load()}")


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
    address: str,
    bundle: Bundle,
    frames: pathlib.Path,
    kind: str,
    count: int,
    seconds: int,
) -> Rates | None:
    """Runs the tool; None where its windows differ too much from each other."""
    report = frames.with_name(f"{kind}-{count}.csv")
    command = [
        *(str(tool), "-m", bundle.card.name, "-u", address, "-i", "grpc", "-b", "1"),
        *(["--streaming"] if kind == "stream" else ["--async"]),
        *("--input-data", str(frames), "--concurrency-range", str(count)),
        # A sequence is one of the recordings, and what ends one is END.
        *("--sequence-length", str(_STEPS), "--num-of-sequences", str(count)),
        *("--measurement-interval", str(1000 * seconds), "--stability-percentage", "50"),
        *("--percentile", "50", "-f", str(report)),
    ]
    libraries = ":".join(sorted({str(path.parent) for path in tool.parent.rglob("*.so.*")}))
    done = subprocess.run(
        command,
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        capture_output=True,
        text=True,
        check=False,
    )
    if "Failed to obtain stable measurement" in done.stdout + done.stderr:
        return None
    if done.returncode or not report.exists():
        raise click.ClickException(f"perf_analyzer failed:\n{done.stdout}\n{done.stderr}")
    (row,) = csv.DictReader(report.read_text(encoding="utf-8").splitlines())
    return Rates(
        float(row["Inferences/Second"]), float(row["p50 latency"]), float(row["p99 latency"])
    )


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
