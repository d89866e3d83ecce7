"""What is open when the interpreter ends, to be closed while its threads still run.

Closed later, by a generator's end or by the garbage collector, a channel waits for
ever for a thread that the interpreter has frozen. A forked child has none of its
parent's threads, so what was opened before the fork is left alone there.
"""

from __future__ import annotations

import atexit
import itertools
import os
import weakref
from typing import Protocol


class Open(Protocol):
    """Something with connections or threads of its own."""

    def close(self) -> None:
        """Ends them; once more is nothing."""


class _Interpreter:
    is_ending = False


# In the order in which they were opened.
_open: dict[int, weakref.ref[Open]] = {}
_numbers = itertools.count()


class Owner:
    """The process that opened a thing: there alone, and not after its end, it can be closed."""

    def __init__(self, opened: Open) -> None:
        """Sees to it that a thing is closed at the end, if it is still there."""
        self._pid = os.getpid()
        number = next(_numbers)
        _open[number] = weakref.ref(opened, lambda _: _open.pop(number, None))

    def may_close(self) -> bool:
        """Whether closing is of use."""
        return not _Interpreter.is_ending and self._pid == os.getpid()


def _close_all() -> None:
    # A stream was opened after the session that it belongs to, and goes before it.
    for reference in reversed(list(_open.values())):
        opened = reference()
        if opened is not None:
            opened.close()
    _Interpreter.is_ending = True


atexit.register(_close_all)
