"""How long a server takes to answer health, asked over and over by a process of its own.

Run as a program it asks until its standard input ends, and prints the longest answer.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

_PERIOD_S = 0.005


class Longest:
    """The longest that an answer took.

    Attributes:
      time_ms: in milliseconds; 0 until it is known.
    """

    time_ms = 0.0


@contextlib.contextmanager
def asked(address: str) -> Iterator[Longest]:
    """Asks as long as the block runs; the longest is known behind it."""
    longest = Longest()
    with subprocess.Popen(
        [sys.executable, "-m", "bench.health", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        # Until it has been answered once, which a new connection takes long for.
        child.stdout.readline()
        yield longest
        child.stdin.close()
        longest.time_ms = float(child.stdout.readline())


def _ask(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        check(health_pb2.HealthCheckRequest())
        print("answered", flush=True)
        longest_s = 0.0
        while not select.select([sys.stdin], [], [], _PERIOD_S)[0]:
            begin = time.perf_counter()
            check(health_pb2.HealthCheckRequest())
            longest_s = max(longest_s, time.perf_counter() - begin)
        print(1e3 * longest_s, flush=True)


if __name__ == "__main__":
    _ask(sys.argv[1])
