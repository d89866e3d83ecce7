"""Who hears of what goes on in an engine."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Is told by the engine, in the event loop; returns at once."""

    def commit_was_possible(self) -> None:
        """Hears that the store has judged changes."""

    def store_failed(self, error: Exception) -> None:
        """Hears that the store could not do what it was asked."""

    def store_was_kept_up(self, error: Exception | None) -> None:
        """Hears what came of the store's upkeep, each second."""
