"""A run: courses by the thousand against a real server, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import grpc

from doubles.known_callers import KnownCallers
from fuzz import requests, rpcs, witnesses
from fuzz.courses import MESSAGES, Course
from fuzz.tally import Tally
from fuzz.targets import MODEL, Attacker
from server.serve_process import resident_bytes
from tickcell.cli.server_process import ServerProcess
from tickcell.model import Bundle
from tickcell.model.bundle import SHIPPED

# Courses under way at once, and the connections that they share.
_LANES = 48
_CONNECTIONS = 8
# Of others, that the server's sessions do not outgrow what is to be measured.
_FLAGS = (
    *("--idle-ttl", "30", "--oip-idle-ttl", "30", "--max-ended", "2000"),
    *("--max-sessions", "20000"),
)
# The heads may have 64 MiB. The rest is what gRPC and the allocator keep for the next calls.
GROWTH_BYTES = 160 * 1024 * 1024
# Once all that is filled, it must not go on.
LATER_GROWTH_BYTES = 32 * 1024 * 1024
_LATER = 100_000
_PROGRESS_S = 10.0
_MOST_FAULTS = 20


class Scene(NamedTuple):
    """A server, and who is there.

    Attributes:
      server: it.
      log: the file that it logs to.
      attackers: who sends what nobody should.
      owners: who have witnesses.
    """

    server: ServerProcess
    log: pathlib.Path
    attackers: tuple[Attacker, ...]
    owners: tuple[Attacker, ...]


@contextlib.contextmanager
def with_callers(directory: pathlib.Path) -> Iterator[Scene]:
    """A server that tells callers apart."""
    known = KnownCallers(
        directory,
        """
        [callers]
        "token:ann" = { owner = "ann" }
        "token:bob" = { owner = "bob" }
        "token:operator" = { role = "operator" }
        """,
    )
    ann, bob, mallory = (
        Attacker(owner, authorization=f"Bearer {known.draw(name)}")
        for name, owner in (("ann", "ann"), ("bob", "bob"), ("mallory", "token:mallory"))
    )
    operator = Attacker("token:operator", True, f"Bearer {known.draw('operator')}")
    stranger, nobody = Attacker(None, authorization="Bearer " + "x" * 43), Attacker(None)
    attackers = (*(ann, mallory, operator) * 5, stranger, nobody)
    flags = ("--tokens", str(known.tokens), "--callers", str(known.callers))
    with ServerProcess(directory, *_FLAGS, *flags, listen="127.0.0.1:0") as server:
        yield Scene(server, directory / "server.log", attackers, (ann, bob))


@contextlib.contextmanager
def without_callers(directory: pathlib.Path) -> Iterator[Scene]:
    """A server where everybody may do everything, models included."""
    models = directory / "models"
    (models / MODEL).mkdir(parents=True)
    (models / MODEL / "1").symlink_to(SHIPPED)
    flags = ("--models", str(models), "--model-control", "explicit", "--load-model", "*")
    anybody = Attacker("", is_operator=True)
    with ServerProcess(directory, *_FLAGS, *flags, listen="127.0.0.1:0") as server:
        yield Scene(server, directory / "server.log", (anybody,), (anybody,))


SCENES = {"with callers": with_callers, "without callers": without_callers}


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
      tally: of its messages.
      seconds: how long it took.
      before_bytes: the server's resident memory once its witnesses had begun.
      midway_bytes: when half of the messages were sent.
      after_bytes: at the end.
      witness_steps: how often witnesses were advanced in all.
    """

    tally: Tally
    seconds: float
    before_bytes: int
    midway_bytes: int
    after_bytes: int
    witness_steps: int

    def faults(self) -> list[str]:
        """Returns what must not be."""
        found = list(self.tally.faults)
        grown = self.after_bytes - self.before_bytes
        if grown > GROWTH_BYTES:
            found.append(f"the server has grown by {grown / 1e6:.0f} MB")
        later = self.after_bytes - self.midway_bytes
        if self.tally.sent >= _LATER and later > LATER_GROWTH_BYTES:
            found.append(f"the server has grown by {later / 1e6:.0f} MB in the second half")
        return found

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {count}" for code, count in self.tally.by_code.most_common())
        sizes = (self.before_bytes, self.midway_bytes, self.after_bytes)
        before, midway, after = (f"{size / 1e6:.0f}" for size in sizes)
        return (
            f"{self.tally.sent} messages in {self.seconds:.0f} s, "
            f"{self.tally.sent / self.seconds:.0f} a second\n"
            f"  answered: {codes}\n"
            f"  {self.witness_steps} steps of witnesses, each the plain loop's\n"
            f"  resident memory: {before} MB before, {midway} MB midway, {after} MB after"
        )


def fuzz(
    kind: str, directory: pathlib.Path, seed: str, count: int, only: int | None = None
) -> Outcome:
    """Sends hostile messages to a server of its own.

    Args:
      kind: one of `SCENES`.
      directory: for the server; it is empty.
      seed: what the messages follow from.
      count: about how many of them.
      only: the one course that is run; None for all.

    Raises:
      LookupError: the server has an RPC of which no requests can be drawn.
      Moved: a witness is not where its owner left it.
    """
    with SCENES[kind](directory) as scene:
        numbers: Iterable[int] = range(-(-count // MESSAGES)) if only is None else [only]
        outcome = asyncio.run(_Run(scene, seed, numbers, count).run())
    # What it had to say of its end, too.
    for line in scene.log.read_text(encoding="utf-8").splitlines():
        if "Traceback" in line or " ERROR " in line or " CRITICAL " in line:
            outcome.tally.faults.append(f"the server's log: {line}")
    return outcome


class _Run:
    def __init__(self, scene: Scene, seed: str, numbers: Iterable[int], count: int) -> None:
        self._scene, self._seed, self._count = scene, seed, count
        self._numbers = iter(numbers)
        self._tally = Tally()
        self._rpcs = rpcs.of_server(scene.server.address)
        requests.require_kinds(self._rpcs.values())
        self._midway_bytes = 0

    async def run(self) -> Outcome:
        bundle = Bundle.load()
        self._frames = bundle.golden.frames[:600]
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(self._channel()) for _ in range(1 + _CONNECTIONS)
            ]
            bystanders = await witnesses.begun(
                channels[0], self._scene.owners, bundle.cell(), self._frames
            )
            self._victims = [each.target for each in bystanders]
            before = self._resident()
            begun = time.monotonic()
            with grpc.insecure_channel(self._scene.server.address) as self._blocking:
                await self._attack(channels[1:], bystanders)
            seconds = time.monotonic() - begun
            for witness in bystanders:
                await witness.look()
                await witness.step()
        return Outcome(
            self._tally,
            seconds,
            before,
            self._midway_bytes or self._after_bytes,
            self._after_bytes,
            sum(each.next_step for each in bystanders),
        )

    async def _attack(self, channels: list[Any], bystanders: list[witnesses.Witness]) -> None:
        over = asyncio.Event()
        stepping = asyncio.create_task(witnesses.keep_stepping(bystanders, over))
        telling = asyncio.create_task(self._keep_telling())
        lanes = [
            asyncio.create_task(self._lane(channel))
            for channel in itertools.islice(itertools.cycle(channels), _LANES)
        ]
        ending: list[asyncio.Future[Any]] = [stepping, asyncio.gather(*lanes)]
        done, _ = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        self._after_bytes = self._resident()
        over.set()
        for task in (telling, *lanes):
            task.cancel()
        await asyncio.gather(telling, stepping, *lanes, return_exceptions=True)
        for ended in done:
            ended.result()

    async def _lane(self, channel: Any) -> None:
        for number in self._numbers:
            if len(self._tally.faults) >= _MOST_FAULTS:
                return
            course = Course(
                self._seed,
                number,
                self._scene.attackers,
                self._victims,
                self._frames,
                self._rpcs,
                self._tally,
            )
            await course.run(channel, self._blocking, self._scene.server.address)
            if self._midway_bytes == 0 and self._tally.sent >= self._count / 2:
                self._midway_bytes = self._resident()

    async def _keep_telling(self) -> None:
        seen = 0
        while True:
            await asyncio.sleep(_PROGRESS_S)
            rate = (self._tally.sent - seen) / _PROGRESS_S
            seen = self._tally.sent
            size = self._resident() / 1e6
            print(f"{seen} messages, {rate:.0f} a second, {size:.0f} MB", flush=True)

    def _channel(self) -> Any:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        return grpc.aio.insecure_channel(self._scene.server.address, options)

    def _resident(self) -> int:
        return resident_bytes(self._scene.server.pid)
