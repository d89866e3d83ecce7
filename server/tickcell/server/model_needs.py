"""Which models are needed: by the live sessions of a store, and by its other servers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tickcell.server.catalogue import Catalogue
    from tickcell.server.observer import Observer
    from tickcell.server.store import Pin
    from tickcell.server.store.contract import AwaitedStore

# For so long a model is loaded that nobody needs any more: far longer than the request for
# a new session is on its way to the store, which was given it just before.
LINGER_S = 10.0

_log = logging.getLogger(__name__)


class ModelNeeds:
    """Compares what is loaded here with what the store says, each second.

    Attributes:
      missing: how many sessions are pinned to each version of which there is no bundle.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: AwaitedStore,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """Begins with nothing known of the store.

        Args:
          catalogue: what is loaded.
          store: knows the sessions and the other servers.
          observer: hears what is missing.
          clock: gives a time in seconds that never jumps.
        """
        self.missing: dict[Pin, int] = {}
        self._catalogue = catalogue
        self._store = store
        self._observer = observer
        self._clock = clock
        # By fingerprint, of what is loaded.
        self._unneeded_since: dict[str, float] = {}

    async def compare(self, there: Collection[str] | None) -> None:
        """Tells the other servers what is served here, hears of theirs, and sees what is held.

        Args:
          there: the fingerprints of which there is a bundle; None where that is not looked at.

        Raises:
          StoreError: the store cannot be read.
        """
        served, peers = self._catalogue.served, self._store.peers()
        self._store.announce(served)
        self._catalogue.hear(peers)
        if there is None:
            return
        pinned = await self._store.pinned()
        self._note_missing(pinned, there)
        needed = {*pinned, *served.offered, *(pin for peer in peers for pin in peer.offered)}
        fingerprints = {pin.fingerprint for pin in needed}
        now_s = self._clock()
        self._unneeded_since = {
            fingerprint: self._unneeded_since.get(fingerprint, now_s)
            for fingerprint in self._catalogue.by_fingerprint
            if fingerprint not in fingerprints
        }

    def unneeded(self) -> list[str]:
        """Returns the fingerprints of what is loaded and nobody has needed for a while."""
        now_s = self._clock()
        return [
            each for each, since_s in self._unneeded_since.items() if now_s - since_s >= LINGER_S
        ]

    def note(self, pin: Pin) -> str:
        """Says that sessions are pinned to a version of which there is no bundle."""
        held = (
            f"{pin.model} {pin.version} ({pin.fingerprint[:12]}) is not in the repository, and "
            f"live sessions are pinned to it ({self.missing[pin]})"
        )
        if self._catalogue.loaded(pin.fingerprint) is None:
            return f"{held}; they are refused here: put it back."
        return f"{held}; they continue from memory, but a restart would refuse them: put it back."

    def _note_missing(self, pinned: Mapping[Pin, int], there: Collection[str]) -> None:
        """Says which versions sessions are pinned to and no directory has, once each."""
        before = self.missing
        self.missing = {pin: count for pin, count in pinned.items() if pin.fingerprint not in there}
        for pin in self.missing.keys() - before.keys():
            _log.error("%s", self.note(pin))
        for pin in before.keys() - self.missing.keys():
            how = "is in the repository again" if pin in pinned else "is used by no session now"
            _log.info("%s %s %s", pin.model, pin.version, how)
        if self.missing != before:
            self._observer.models_are_missing(self.missing)
