"""The way in, as `tickcell` and as `python -m tickcell.cli`; it needs no extra itself."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from tickcell.cli import event_engine
from tickcell.model import extras

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGES = ("click", "tqdm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, or says which extra is missing; returns the exit status."""
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            sys.stderr.write(f"tickcell: {extras.missing(package, 'cli')}\n")
            return 1
    event_engine.leave_off()
    from tickcell.cli import command_line

    return command_line.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
