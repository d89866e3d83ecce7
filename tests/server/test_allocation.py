"""What a long message or record has left is used again, and not a page fault at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource
from tickcell.server import allocation

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        # A record of 1,024 series, copied twice as it is encoded.
        bytes(bytearray(400_000)) + bytes(bytearray(600_000))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

as_it_was = faults()
allocation.keep_freed()
faults()
print(as_it_was, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told what to keep")
def test_memory_that_was_freed_is_used_again() -> None:
    # In a process of its own: what is told to the C library holds until it ends.
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True
    )
    as_it_was, kept = map(int, done.stdout.split())
    assert as_it_was > 1000, "the C library keeps freed memory by itself: nothing is gained"
    assert kept < as_it_was / 10
