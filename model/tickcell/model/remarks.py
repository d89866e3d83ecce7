"""What a native library remarks on standard error while all goes well."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

_REMARK = b"INFO: "


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Keeps lines that begin with "INFO: " from standard error; all others appear after it.

    LiteRT writes one at its first graph, below Python and with no switch, onto the
    terminal of whoever asked for something else.
    """
    error = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(error, 2)
            os.close(error)
            held.seek(0)
            for line in held:
                if not line.startswith(_REMARK):
                    os.write(2, line)
