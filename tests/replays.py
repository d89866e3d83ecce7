"""Sessions that stream the shipped sample round and round, to be held to the plain loop."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator

import numpy as np

from tickcell.client import Session
from tickcell.model import Bundle

# Longer than any of this takes, so that a hang is a failure and not a night.
PATIENCE_S = 120.0


@dataclasses.dataclass
class Replay:
    """One session that streams until it is told to stop."""

    session: Session
    offset: int
    outputs: list[np.ndarray] = dataclasses.field(default_factory=list)
    error: BaseException | None = None

    def frames(self, golden: np.ndarray, stop: threading.Event) -> Iterator[np.ndarray]:
        """Yields the sample's frames from an offset on, round and round."""
        step = 0
        while not stop.is_set():
            yield golden[(self.offset + step) % len(golden)]
            step += 1

    def run(self, golden: np.ndarray, stop: threading.Event) -> None:
        try:
            for output in self.session.stream(self.frames(golden, stop), max_chunk=4):
                self.outputs.append(output)
        except BaseException as error:  # noqa: BLE001 - the test's own thread fails for it.
            self.error = error


def loop(bundle: Bundle, offset: int, steps: int) -> np.ndarray:
    """What the plain loop gives for the same frames."""
    cell, golden = bundle.cell(), bundle.golden.frames
    state = cell.initial_state()
    outputs = []
    for step in range(steps):
        output, state = cell.step(golden[(offset + step) % len(golden)], state)
        outputs.append(output)
    return np.stack(outputs)


class Replays:
    """Sessions that stream at once, each in a thread of its own."""

    def __init__(self, address: str, count: int) -> None:
        self._bundle = Bundle.load()
        self._stop = threading.Event()
        self.all = [
            Replay(Session.create(address, f"car-{index}"), 97 * index) for index in range(count)
        ]
        golden = self._bundle.golden.frames
        self._threads = [
            threading.Thread(target=replay.run, args=(golden, self._stop)) for replay in self.all
        ]

    @contextlib.contextmanager
    def streaming(self) -> Iterator[None]:
        """Streams within the block, and has nobody give up."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(PATIENCE_S)
        for thread, replay in zip(self._threads, self.all, strict=True):
            assert not thread.is_alive()
            if replay.error is not None:
                raise replay.error

    def wait_until_all_moved(self, step_count: int = 1) -> None:
        """Waits until each session has had so many more outputs."""
        goals = [len(replay.outputs) + step_count for replay in self.all]
        deadline = time.monotonic() + PATIENCE_S
        for replay, goal in zip(self.all, goals, strict=True):
            while len(replay.outputs) < goal:
                if replay.error is not None:
                    raise replay.error
                assert time.monotonic() < deadline, f"{replay.session.id} does not move"
                time.sleep(0.002)

    def assert_as_in_the_plain_loop(self) -> int:
        """Holds all outputs to those of the loop, bit for bit; returns how many there were."""
        for replay in self.all:
            expected = loop(self._bundle, replay.offset, len(replay.outputs))
            assert np.stack(replay.outputs).tobytes() == expected.tobytes(), replay.session.id
            assert replay.session.next_step == len(replay.outputs)
        return sum(len(replay.outputs) for replay in self.all)
