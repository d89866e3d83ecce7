"""`pytest --fast`: the tests of one process, without TensorFlow.

Which tests these are is nowhere written down. A test that starts a process or imports TensorFlow
is skipped at that moment, so the fast tests are quick wherever they run, and a new test is one of
them until it does either.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

_HEAVY = frozenset({"tensorflow", "keras", "tensorboard"})
# What Python announces before it starts a process: https://docs.python.org/3/library/audit_events.html
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})


def begin() -> None:
    """Skips, from now on and in this process, what is not fast."""
    sys.addaudithook(_skip_what_is_not_fast)


def _skip_what_is_not_fast(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _STARTS:
        pytest.skip("not fast: it starts a process", allow_module_level=True)
    # `arguments[0]` is the module's full name.
    if event == "import" and arguments[0].partition(".")[0] in _HEAVY:
        pytest.skip(f"not fast: it imports {arguments[0]}", allow_module_level=True)
