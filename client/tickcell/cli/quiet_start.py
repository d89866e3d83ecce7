"""Native libraries started for a command, without what they say while all goes well.

LiteRT remarks on its first graph, and TensorFlow on instructions and on absent GPUs: below
Python, onto the process's standard error, with no switch. Taking that away for a moment
takes it from every thread, so only the command line does, before a command begins.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from tickcell.model import extras
from tickcell.model.bundle import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Iterator


def litert(extra: str) -> None:
    """Lets LiteRT load a first graph.

    Args:
      extra: the one that brings it.

    Raises:
      MissingExtraError: it is not installed.
    """
    with held_stderr():
        interpreter = extras.load("ai_edge_litert.interpreter", extra=extra)
        interpreter.Interpreter(str(SHIPPED / "step.tflite")).allocate_tensors()


def tensorflow() -> None:
    """Imports TensorFlow and lets it look at the devices.

    Raises:
      MissingExtraError: it is not installed.
    """
    # It sets what is read when TensorFlow is first imported.
    import tickcell.model.keras  # noqa: F401 - for what it loads

    with held_stderr():
        extras.load("tensorflow", extra="train").config.list_logical_devices()


@contextlib.contextmanager
def held_stderr() -> Iterator[None]:
    """Holds back what is written to standard error, and lets it out if the block fails."""
    sys.stderr.flush()
    # In memory: a container may have no directory that can be written.
    with open(os.memfd_create("stderr"), "w+b") as held:
        error = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(error, held.read())
            raise
        finally:
            os.dup2(error, 2)
            os.close(error)
