"""The machine and the versions that figures belong to."""

from __future__ import annotations

import importlib.metadata
import os
import platform

_PACKAGES = ("tickcell", "grpcio", "protobuf", "numpy", "apsw", "ai-edge-litert")


def describe() -> str:
    """Says the processor, its cores, and what runs on it."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores; Python "
        f"{platform.python_version()}, {versions}"
    )


def load() -> str:
    """Says how busy the machine has been for 1 and for 5 minutes, in cores."""
    one, five, _ = os.getloadavg()
    return f"{one:.1f} and {five:.1f}"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()
