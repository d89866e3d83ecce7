"""A progress bar on standard error, for people only."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(
    what: str, total: int | None, unit: str = "step", *, writes_output: bool = False
) -> Iterator[Callable[..., object]]:
    """Shows a bar while the block runs; gives what to call at each step, or with their number.

    Args:
      what: is going on.
      total: the number of steps; None if it is not known.
      unit: what to call a step.
      writes_output: whether the block writes to standard output: on a terminal, the bar
        would be mixed up with that, so there is none. Nor is there one where standard
        error is no terminal.
    """
    import tqdm

    is_hidden = not sys.stderr.isatty() or (writes_output and sys.stdout.isatty())
    with tqdm.tqdm(
        desc=what, total=total, unit=unit, file=sys.stderr, disable=is_hidden, leave=False
    ) as shown:
        yield shown.update
