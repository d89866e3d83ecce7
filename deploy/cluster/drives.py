"""Cars that drive by a server: frames by the clock, eased by the outputs, and all of it kept.

Afterwards the outputs are held to those of the plain loop over the same frames, and what was
applied is read from the sessions: how many steps, and the history of all frames in order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell import drive
from tickcell.client import Session
from tickcell.model import Bundle
from tickcell.wire import history

if TYPE_CHECKING:
    from numpy.typing import NDArray

# So long a client tries before it gives up: no fault of a test lasts as long.
_RETRY_FOR_S = 120.0
# From here on the agent eases its driver.
_THRESHOLD = 0.5
# Longer than any fault, so that a hang is a failure and not a night.
_PATIENCE_S = 180.0


class Gap(NamedTuple):
    """How long a car had no output while it wanted one."""

    seconds: float
    session: str
    after_step: int

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, of {self.session} after step {self.after_step}"


class Verdict(NamedTuple):
    """What came of holding all sessions to the plain loop.

    Attributes:
      outputs: how many outputs there were.
      wrong: how many of them are not the loop's, bit for bit.
      lost: the steps that were answered, and that the session does not have.
      doubled: the steps that the session has, and that no car took.
      rewritten: the sessions whose history is not that of the car's frames.
    """

    outputs: int
    wrong: int
    lost: int
    doubled: int
    rewritten: int

    @property
    def is_passed(self) -> bool:
        """Whether every output is right and every step was applied once."""
        return self.outputs > 0 and not any(self[1:])

    def __str__(self) -> str:
        return (
            f"{self.outputs} outputs: {self.wrong} wrong, {self.lost} lost, {self.doubled} applied "
            f"twice, {self.rewritten} sessions with another history"
        )


class Manner(NamedTuple):
    """How cars drive.

    Attributes:
      hz: frames a second, for each car.
      window: the most frames in flight.
      leg: about how many steps until the program of a car is started again: it leaves its
        stream with frames in flight, attaches anew, sends again in other chunks what it has
        no output for, and one step that it has; None for never.
    """

    hz: float = drive.RATE_HZ
    window: int = 4
    leg: int | None = None


@dataclasses.dataclass
class Car:
    """One session, and what became of it.

    Attributes:
      frames: all that it gave, in order.
      outputs: all that it got, in order.
      times_s: when it got each.
      error: what ended it, if anything did.
    """

    session: Session
    manner: Manner
    seed: int
    frames: list[NDArray[np.float32]] = dataclasses.field(default_factory=list)
    outputs: list[NDArray[np.float32]] = dataclasses.field(default_factory=list)
    times_s: list[float] = dataclasses.field(default_factory=list)
    error: BaseException | None = None

    def run(self, addresses: str, stop: threading.Event) -> None:
        """Drives until it is told to stop, and then waits for the outputs that are due."""
        try:
            self._drive(addresses, stop)
        except BaseException as error:  # noqa: BLE001 - who started the thread raises it
            self.error = error

    def _drive(self, addresses: str, stop: threading.Event) -> None:
        chance = random.Random(self.seed)  # noqa: S311 - not a secret
        car = drive.Drive(seed=self.seed)
        while True:
            length = self.manner.leg and chance.randint(1, 2 * self.manner.leg)
            chunk = chance.choice([None, 1, 2, self.manner.window])
            source = self._source(car, stop)
            stream = self.session.stream(source, max_chunk=chunk)
            for output in itertools.islice(stream, length):
                self.outputs.append(output)
                self.times_s.append(time.monotonic())
            if stop.is_set() and len(self.outputs) == len(self.frames):
                return
            self._start_again(addresses)

    def _start_again(self, addresses: str) -> None:
        """Goes on as a program does that was killed and has kept its frames and outputs."""
        self.session.detach()
        self.session = _attach(addresses, self.session.id)
        had = len(self.outputs)
        self.session.rewind(max(0, had - 1))
        if had:
            again = self.session.step(self.frames[had - 1])
            if again.tobytes() != self.outputs[-1].tobytes():
                raise AssertionError(f"{self.session.id}: step {had - 1} has two outputs.")

    def _source(self, car: drive.Drive, stop: threading.Event) -> Iterator[NDArray[np.float32]]:
        """Yields what was taken and has no output, and then a frame at each tick."""
        for step in itertools.count(len(self.outputs)):
            if step == len(self.frames):
                # Those that wait are let go at once: they were not in time anyway.
                if stop.wait(1 / self.manner.hz):
                    return
                eased = bool(self.outputs) and bool(self.outputs[-1][0] >= _THRESHOLD)
                self.frames.append(car.tick(eased=eased).frame)
            yield self.frames[step]


class Drives:
    """Many cars on the same servers."""

    def __init__(self, addresses: str, count: int, manner: Manner, name: str = "car") -> None:
        """Creates their sessions.

        Args:
          addresses: of the servers, with commas between them.
          count: how many cars.
          manner: how they drive.
          name: of the sessions, each with a number.
        """
        self._addresses = addresses
        self._stop = threading.Event()
        self.cars = [
            Car(
                Session.create(
                    addresses, f"{name}-{index}", window=manner.window, retry_for_s=_RETRY_FOR_S
                ),
                manner,
                seed=index,
            )
            for index in range(count)
        ]
        self._threads = [
            threading.Thread(target=car.run, args=(addresses, self._stop), name=car.session.id)
            for car in self.cars
        ]

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """Drives within the block; at its end every frame has its output.

        Raises:
          TickcellError: what ended a car.
        """
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(_PATIENCE_S)
        for car, thread in zip(self.cars, self._threads, strict=True):
            if car.error is not None:
                raise car.error
            if thread.is_alive():
                raise AssertionError(f"{car.session.id} hangs at step {len(car.outputs)}.")

    def wait(self, step_count: int = 1) -> None:
        """Waits until each car has had so many more outputs."""
        goals = [len(car.outputs) + step_count for car in self.cars]
        until = time.monotonic() + _PATIENCE_S
        for car, goal in zip(self.cars, goals, strict=True):
            while len(car.outputs) < goal:
                if car.error is not None:
                    raise car.error
                if time.monotonic() > until:
                    raise AssertionError(f"{car.session.id} stands at step {len(car.outputs)}.")
                time.sleep(0.01)

    @property
    def longest_gap(self) -> Gap:
        """The longest time between two outputs of a car."""
        gaps = [
            Gap(later - earlier, car.session.id, step)
            for car in self.cars
            for step, (earlier, later) in enumerate(itertools.pairwise(car.times_s))
        ]
        return max(gaps)

    def verdict(self) -> Verdict:
        """Holds all sessions to the plain loop, and deletes them."""
        cell = Bundle.load().cell()
        outputs = wrong = lost = doubled = rewritten = 0
        for car in self.cars:
            state, chained = cell.initial_state(), history.START
            for frame, output in zip(car.frames, car.outputs, strict=True):
                expected, state = cell.step(frame, state)
                wrong += output.tobytes() != expected.tobytes()
                chained = history.chain(chained, frame.astype("<f4").tobytes(), 1)
            car.session.detach()
            with _attach(self._addresses, car.session.id) as applied:
                lost += max(0, len(car.frames) - applied.next_step)
                doubled += max(0, applied.next_step - len(car.frames))
                rewritten += applied.history != chained
            outputs += len(car.outputs)
        return Verdict(outputs, wrong, lost, doubled, rewritten)


def _attach(addresses: str, session: str) -> Session:
    return Session.attach(addresses, session, retry_for_s=_RETRY_FOR_S)
