"""gRPC's event engine, which a process of Python is quicker without.

Since 1.80, grpcio reads and writes sockets by this engine. A message that arrives wakes three
of its threads, one after the other, beside the one that hands it over to Python; without
the engine it wakes only that one. gRPC keeps the older way as a switch for some releases.
So it is used with the releases in which it was tried, and later ones are left as they are.
"""

from __future__ import annotations

import importlib.metadata
import os

_SWITCHES = "GRPC_EXPERIMENTS"
_OFF = "-event_engine_listener,-event_engine_client"
# Of a switch that it does not know, gRPC writes an error to the log of each process.
_FIRST_UNTRIED = (1, 86)


def leave_off() -> None:
    """Leaves the engine off in this process, unless its environment has switches already.

    It must come before `grpc` is imported, which reads them.
    """
    if switches := switches_of(importlib.metadata.version("grpcio")):
        os.environ.setdefault(_SWITCHES, switches)


def switches_of(version: str) -> str:
    """Returns what leaves it off in a release of grpcio; "" where that was not tried."""
    major, minor, *_ = version.split(".")
    return _OFF if (int(major), int(minor)) < _FIRST_UNTRIED else ""
