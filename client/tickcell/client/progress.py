"""A progress bar on standard error, for people only."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(what: str, total: int | None, unit: str = "step") -> Iterator[Callable[[], object]]:
    """Shows a bar while the block runs; gives what to call at each step.

    Where standard error is not a terminal, or standard output is one and would be mixed
    up with it, there is none.
    """
    import tqdm

    is_hidden = not sys.stderr.isatty() or sys.stdout.isatty()
    with tqdm.tqdm(
        desc=what, total=total, unit=unit, file=sys.stderr, disable=is_hidden, leave=False
    ) as shown:
        yield shown.update
