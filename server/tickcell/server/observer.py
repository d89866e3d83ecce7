"""Who hears of what goes on in an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tickcell.server.store.contract import Pin


class Observer(Protocol):
    """Is told by the engine, in the event loop; returns at once."""

    def commit_was_possible(self) -> None:
        """Hears that the store has judged changes."""

    def store_failed(self, error: Exception) -> None:
        """Hears that the store could not do what it was asked."""

    def store_was_kept_up(self, error: Exception | None) -> None:
        """Hears what came of the store's upkeep, each second."""

    def models_are_missing(self, missing: Mapping[Pin, int]) -> None:
        """Hears how many live sessions are pinned to versions that no directory has any more.

        It does whenever that changes, and with nothing once all is well again.
        """
