"""The command `tickcell demo`: a replay whose server is killed in the middle."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import time
from typing import TYPE_CHECKING

import click
import numpy as np

from tickcell.cli import server_process
from tickcell.cli.commands import options
from tickcell.cli.comparison import TOLERANCE, Comparison, compare, loop
from tickcell.client.errors import TickcellError
from tickcell.client.session import Session
from tickcell.model import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tickcell.cli.server_process import ServerProcess

_ROWS = 10


class DemoError(TickcellError):
    """The demonstration could not show what it should."""


@click.command("demo")
@options.bundle
def demo(bundle: pathlib.Path) -> int:
    r"""Starts a server, replays the sample, kills the server in the middle, and continues.

    Compares every output with a loop that uses no server. Exits with 1 if any differs.

    \b
    tickcell demo
    """
    return 0 if _Demo(bundle, click.echo).run() else 1


@dataclasses.dataclass
class _Demo:
    """Streams a bundle's golden frames past a crash.

    Attributes:
      path: the bundle's directory.
      say: shows the viewer a line.
    """

    path: pathlib.Path
    say: Callable[[str], object]
    _killed_at: int | None = None

    def run(self) -> bool:
        """Runs the demonstration; returns whether the outputs are what they should be."""
        bundle = Bundle.load(self.path)
        card, frames = bundle.card, bundle.golden.frames
        with server_process.temporary("--bundle", str(self.path)) as server:
            self.say(f"server {server.pid} serves {card.name} {card.version}; {len(frames)} frames")
            outputs = self._replay(server, bundle)
        by_loop = compare("streamed", outputs, "the in-process loop", loop(bundle.cell(), frames))
        by_keras = compare("streamed", outputs, "Keras", bundle.golden.outputs, tolerance=TOLERANCE)
        self.say(
            f"max |delta| to Keras over the full sequence: {by_keras.max_delta:.2g} (at step "
            f"{by_keras.at_step})"
        )
        self.say(self._verdict(by_loop))
        return by_loop.is_passed and by_keras.is_passed

    def _replay(self, server: ServerProcess, bundle: Bundle) -> NDArray[np.float32]:
        frames, rate_hz = bundle.golden.frames, bundle.card.rate_hz
        outputs = np.empty((len(frames), bundle.interface.output_count), np.float32)
        # Anywhere in the middle half, another place each time.
        kill_step = random.randrange(len(frames) // 4, 3 * len(frames) // 4)  # noqa: S311 - not a secret
        with Session.create(server.address) as session:
            # From an iterator frames go out all the time, so that a kill finds some unanswered.
            for step, output in enumerate(session.stream(iter(frames))):
                outputs[step] = output
                if step % (len(frames) // _ROWS) == 0:
                    self.say(f"  step {step:5}  t {step / rate_hz:6.2f} s  output {output[0]:.6f}")
                if self._killed_at is None and step >= kill_step and session.in_flight:
                    self._killed_at = step
                    self._kill(server, session)
        if self._killed_at is None:
            raise DemoError("the server answered everything before it could be killed; run again.")
        return outputs

    def _kill(self, server: ServerProcess, session: Session) -> None:
        start, old, unanswered = time.monotonic(), server.pid, session.in_flight
        server.kill()
        self.say(f"kill -9 {old} at step {self._killed_at}, with {unanswered} steps unanswered")
        server.restart()
        self.say(f"server {server.pid} goes on after {time.monotonic() - start:.1f} s")

    def _verdict(self, result: Comparison) -> str:
        return (
            f"killed at step {self._killed_at}; {result.differing} of {result.count} outputs differ"
        )
