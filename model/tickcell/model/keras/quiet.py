"""Keeping what TensorFlow's C++ side prints of what goes well.

It writes notes on instructions, absent GPUs and passes of its compiler to the process's
standard error itself, whatever the log level is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from tickcell.model import extras


@contextlib.contextmanager
def held_stderr() -> Iterator[None]:
    """Holds back what is written to standard error, and lets it out if the block fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
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


def load_tensorflow() -> None:
    """Imports TensorFlow and starts it up, without its notes.

    Raises:
      MissingExtraError: it is not installed.
    """
    with held_stderr():
        tensorflow = extras.load("tensorflow", extra="train")
        # The first look at the devices is what the last notes come from.
        tensorflow.config.list_logical_devices()
