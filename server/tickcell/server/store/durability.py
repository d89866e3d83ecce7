"""What an acknowledged commit survives. It is the store's, and the same for all its servers.

process-crash: any crash or kill of a process. The log is synced each second, so a power
    cut loses what was committed since.
power-loss: a power cut too. An answer waits until the log is on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tickcell.server.store.errors import OtherDurabilityError

if TYPE_CHECKING:
    import pathlib

Durability = Literal["process-crash", "power-loss"]
DEFAULT: Durability = "process-crash"


def require(directory: pathlib.Path, kept: Durability, wanted: Durability | None) -> None:
    """Raises OtherDurabilityError if a server wants another durability than the store's."""
    if wanted not in (None, kept):
        raise OtherDurabilityError(
            f"{directory}: has durability {kept}, got {wanted}; ask for {kept}, or stop the "
            f"store's servers and run 'tickcell store durability --store {directory} {wanted}'."
        )
