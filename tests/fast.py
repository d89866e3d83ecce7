"""`pytest --fast`: the tests of one process, without TensorFlow.

Which tests these are is nowhere written down: a test that starts a process or imports TensorFlow
is skipped at that moment. The few others that take seconds, as `pytest --durations=30` shows, are
marked `lengthy`.
"""

from __future__ import annotations

import sys
from typing import Any

import hypothesis
import pytest

# What only the extra `train` brings.
_HEAVY = frozenset({"tensorflow", "keras", "tensorboard", "h5py", "sklearn"})
# What Python announces before it starts a process: https://docs.python.org/3/library/audit_events.html
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})


def begin(config: pytest.Config) -> None:
    """Leaves out, from now on and in this process, what is not fast.

    It begins once pytest has started, which starts processes itself, and before it collects.
    """
    asked = config.option.markexpr
    config.option.markexpr = f"({asked}) and not lengthy" if asked else "not lengthy"
    # As many as find a slip while one works on it; all the others come with the whole suite.
    hypothesis.settings.register_profile("fast", hypothesis.settings(), max_examples=20)
    hypothesis.settings.load_profile("fast")
    sys.addaudithook(_skip_what_is_not_fast)


def _skip_what_is_not_fast(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _STARTS:
        pytest.skip("not fast: it starts a process", allow_module_level=True)
    # `arguments[0]` is the module's full name.
    if event == "import" and arguments[0].partition(".")[0] in _HEAVY:
        pytest.skip(f"not fast: it imports {arguments[0]}", allow_module_level=True)
