"""Where a tick's time goes: flame graphs of a server, and of a client that steps a session.

    python -m bench.flames DIRECTORY

Both processes are sampled by py-spy, one after the other, while one agent calls
`Session.step` over and over. Only what holds the interpreter's lock is drawn: neither a thread
that waits, nor gRPC's own threads, nor the kernel.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import click

from bench import serving
from tickcell.client import Session
from tickcell.model import Bundle

_RATE_HZ = 500


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=click.Path(file_okay=False, path_type=pathlib.Path))
@click.option("--seconds", type=click.IntRange(min=1), default=10, show_default=True)
def main(directory: pathlib.Path, seconds: int) -> None:
    """Writes server.svg and client.svg to DIRECTORY."""
    if shutil.which("py-spy") is None:
        raise click.ClickException("py-spy is not installed; run: pip install py-spy")
    directory.mkdir(parents=True, exist_ok=True)
    with (
        serving.serving() as server,
        subprocess.Popen(
            [sys.executable, "-m", "bench.flames", "--step", server.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=serving.HERE,
        ) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        # Until it has stepped.
        client.stdout.readline()
        for name, pid in (("server", server.pid), ("client", client.pid)):
            path = directory / f"{name}.svg"
            subprocess.run(
                [
                    *("py-spy", "record", "--pid", str(pid), "--duration", str(seconds)),
                    *("--rate", str(_RATE_HZ), "--gil", "--nonblocking", "--output", str(path)),
                ],
                check=True,
            )
            click.echo(f"written: {path}")
        client.terminate()


def _step(address: str) -> None:
    """Steps a session until the process is ended."""
    frames = Bundle.load().golden.frames
    with Session.create(address) as session:
        session.step(frames[0])
        print("stepping", flush=True)
        while True:
            for frame in frames:
                session.step(frame)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        _step(sys.argv[2])
    else:
        main()
