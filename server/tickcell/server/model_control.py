"""Which models are loaded: a repository followed, or told what to do, while the server serves.

    none       what is there at the start is served
    watch      what comes is served once it has settled; what goes is withdrawn
    explicit   what an operator loads is served, until an operator unloads it

In each of them a session goes on with the version to which it is pinned: that is looked
for in the repository when it is not loaded, stays loaded as long as any session of the
store holds it, and so does what another server of the store still gives to new sessions.
The disk is read, and models are verified and probed, in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, TypeVar

from tickcell.model import BundleError
from tickcell.server import errors
from tickcell.server.catalogue import order
from tickcell.server.model_needs import ModelNeeds
from tickcell.server.repository import Found, Place, Repository, RepositoryError, Settling
from tickcell.server.store.errors import StoreAwayError

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.config import Control
    from tickcell.server.observer import Observer
    from tickcell.server.store.contract import AwaitedStore

_Result = TypeVar("_Result")

# After a search that found nothing the next may find something.
RETRY_S = 1.0
# While a model is loaded, the loop gets the interpreter's lock back within this.
_SWITCH_S = 0.0005

_log = logging.getLogger(__name__)


class Version:
    """A version of the repository that has settled.

    Attributes:
      found: its directory, as it was then.
      problem: why that is not served, as a sentence; "" where nothing is known to be wrong.
    """

    def __init__(self, found: Found) -> None:
        self.found = found
        self.problem = ""


class ModelControl:
    """Loads and unloads models; all but its thread's work is done in the event loop.

    Attributes:
      repository: None where models come from `--bundle` alone, and stay.
      seen: what lay in it at the last look, by place.
      versions: what has settled there.
      needs: knows what the store's sessions and servers need.
    """

    def __init__(
        self,
        repository: Repository | None,
        control: Control,
        catalogue: Catalogue,
        store: AwaitedStore,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins with what the catalogue has, which is never unloaded."""
        self.repository = repository
        self.seen: dict[Place, Found] = {}
        self.versions: dict[Place, Version] = {}
        self.needs = ModelNeeds(catalogue, store, observer, clock)
        self._control = control
        self._catalogue = catalogue
        self._store = store
        self._observer = observer
        self._clock = clock
        self._settling = Settling(clock)
        catalogue.retry_s = None if repository is None else RETRY_S
        self._fixed = {model.place: model.fingerprint for model in catalogue}
        self._problems: list[str] = []
        self._searches: dict[str, asyncio.Task[bool]] = {}
        self._not_found_at: dict[str, float] = {}
        # One at a time reads the disk and then changes the catalogue.
        self._lock = asyncio.Lock()
        self._thread = futures.ThreadPoolExecutor(1, "models")

    @property
    def follows(self) -> bool:
        """Whether it serves what comes into the repository by itself."""
        return self._control == "watch"

    async def begin(self, wanted: Sequence[str] = ()) -> None:
        """Loads what is to be served from the start on.

        What settles later counts later; what verifies now is whole.

        Args:
          wanted: under `explicit`, `NAME` for its newest version, `NAME:VERSION`, or `*`.

        Raises:
          RepositoryError: it cannot be read, or has nothing of what is wanted.
          StoreError: what its sessions are pinned to cannot be read.
        """
        if self.repository is not None:
            self._settling.adopt(await self._look())
            self.versions = {place: Version(found) for place, found in self.seen.items()}
            chosen = self._chosen(wanted) if self._control == "explicit" else {*self.versions}
            try:
                pinned = {pin.fingerprint for pin in await self._store.pinned()}
            except StoreAwayError as error:
                # What sessions are pinned to is looked for when they ask.
                _log.warning("%s", error)
                pinned = set()
            for place in sorted(self.versions, key=lambda place: order(*place)):
                found = self.versions[place].found
                if place in chosen or found.fingerprint in pinned:
                    await self._try(place, found, is_offered=place in chosen)
        with contextlib.suppress(StoreAwayError):
            await self._compare_with_store()

    async def keep_up(self) -> None:
        """Does what is due each second.

        Raises:
          RepositoryError: it cannot be read; all stays as it was.
          StoreError: what its sessions are pinned to cannot be read.
        """
        await self._compare_with_store()
        await self._drop_unneeded()
        if self._control != "none":
            await self._follow()

    async def search(self, fingerprint: str) -> bool:
        """Looks for a model that sessions are pinned to, once for all who ask.

        Returns:
          Whether it is loaded now. What was not found is not looked for again at once.
        """
        if self._catalogue.loaded(fingerprint) is not None:
            return True
        now_s = self._clock()
        self._not_found_at = {
            each: at for each, at in self._not_found_at.items() if now_s - at < RETRY_S
        }
        if self.repository is None or fingerprint in self._not_found_at:
            return False
        if fingerprint not in self._searches:
            self._searches[fingerprint] = asyncio.create_task(self._search(fingerprint))
        return await asyncio.shield(self._searches[fingerprint])

    async def load(self, caller: Caller, name: str, version: str = "") -> ServedModel:
        """Gives a version of the repository to new sessions; again, as it lies there now.

        Args:
          caller: who asks.
          name: of the model.
          version: empty for the newest in the repository.

        Raises:
          OperatorsOnly: the caller is no operator.
          ModelsUncontrolled: this server is not controlled by calls.
          ModelUnknown: the repository has no such version.
          ModelBroken: it cannot be served; what was loaded before stays.
        """
        caller.require_operator("loads a model")
        self._require_explicit()
        return await asyncio.shield(asyncio.create_task(self._load(name, version)))

    async def unload(self, caller: Caller, name: str, version: str = "") -> list[ServedModel]:
        """Gives a version to no new session any more; it goes on for those that have it.

        When the last of them has ended, its memory is given back.

        Args:
          caller: who asks.
          name: of the model.
          version: empty for all that are loaded.

        Returns:
          The models that were withdrawn.

        Raises:
          OperatorsOnly: the caller is no operator.
          ModelsUncontrolled: this server is not controlled by calls.
          ModelUnknown: no such version of the repository is loaded.
        """
        caller.require_operator("unloads a model")
        self._require_explicit()
        withdrawn = [
            model
            for model in self._catalogue
            if model.card.name == name
            and version in ("", model.card.version)
            and model.place not in self._fixed
        ]
        if not withdrawn:
            raise self._unknown(name, version, "is not loaded")
        for model in withdrawn:
            self._catalogue.withdraw(model.place)
            _log.info("%s %s gets no new sessions: it was unloaded", *model.place)
        return withdrawn

    def close(self) -> None:
        """Waits for the thread to end."""
        self._thread.shutdown(cancel_futures=True)

    # The repository.

    async def _look(self) -> dict[Place, Found]:
        """Looks at the repository; the lock is held.

        Raises:
          RepositoryError: it cannot be read.
        """
        assert self.repository is not None
        look = await self._in_thread(self.repository.look)
        for problem in look.problems:
            if problem not in self._problems:
                _log.warning("%s", problem)
        self._problems = look.problems
        self.seen = look.found
        return look.found

    async def _follow(self) -> None:
        """Looks at the repository, and serves what has settled there."""
        async with self._lock:
            for place, found in self._settling.settled(await self._look()):
                if found is None:
                    self._forget(place)
                elif place not in self.versions or self.versions[place].found != found:
                    self.versions[place] = Version(found)
                    if self.follows:
                        await self._try(place, found)

    def _forget(self, place: Place) -> None:
        """Forgets a version whose directory is gone; who is pinned to it goes on."""
        self.versions.pop(place, None)
        if self.follows and place not in self._fixed and self._catalogue.offers(place):
            self._catalogue.withdraw(place)
            _log.info("%s gets no new sessions: its directory is gone", place)

    async def _try(self, place: Place, found: Found, *, is_offered: bool = True) -> None:
        """Loads a version; what is wrong with it is reported, and harms nobody."""
        try:
            await self._bring(place, found, is_offered=is_offered)
        except RepositoryError as error:
            _log.debug("%s: it has to settle again", error)
        except errors.ModelBroken as error:
            version = self.versions.get(place)
            if version is not None and version.found == found:
                version.problem = error.metadata["problem"]
            _log.error("%s", error)

    async def _bring(self, place: Place, found: Found, *, is_offered: bool = True) -> ServedModel:
        """Loads a version as it was found.

        Raises:
          ModelBroken: it cannot be served.
          RepositoryError: it was changed meanwhile.
        """
        assert self.repository is not None
        load, known = self.repository.load, self._catalogue.by_fingerprint
        try:
            if place in self._fixed:
                raise BundleError(f"{found.path}: --bundle has a model of this name and version.")
            model = await self._in_thread(lambda: load(place, found, known))
        except BundleError as error:
            raise errors.model_broken(*place, str(error)) from error
        except RepositoryError:
            raise
        except Exception as error:
            # Whatever a file can upset; the others go on.
            _log.exception("%s failed to load", place)
            raise errors.model_broken(*place, repr(error)) from error
        if is_offered:
            self._catalogue.offer(model)
        else:
            self._catalogue.keep(model)
        to_whom = "new sessions" if is_offered else "the sessions that are pinned to it"
        _log.info("%s is served to %s, fingerprint %s", place, to_whom, model.fingerprint[:12])
        return model

    async def _search(self, fingerprint: str) -> bool:
        """Looks for a fingerprint in the repository, and loads what has it."""
        try:
            async with self._lock:
                for place, found in (await self._look()).items():
                    if found.fingerprint == fingerprint:
                        await self._try(place, found, is_offered=False)
                    if self._catalogue.loaded(fingerprint) is not None:
                        return True
        except RepositoryError as error:
            _log.error("%s", error)
        finally:
            del self._searches[fingerprint]
        self._not_found_at[fingerprint] = self._clock()
        return False

    async def _load(self, name: str, version: str) -> ServedModel:
        async with self._lock:
            try:
                seen = await self._look()
                places = [
                    place for place in seen if place.name == name and version in ("", place.version)
                ]
                if not places:
                    raise self._unknown(name, version, "is not in the repository")
                place = max(places, key=lambda place: order(*place))
                model = await self._bring(place, seen[place])
            except RepositoryError as error:
                raise errors.model_broken(name, version, str(error)) from error
            self.versions[place] = Version(seen[place])
            return model

    def _chosen(self, wanted: Sequence[str]) -> set[Place]:
        """Returns the places that are wanted at the start.

        Raises:
          RepositoryError: there is none of a name.
        """
        assert self.repository is not None
        chosen = set[Place]()
        for each in wanted:
            name, _, version = each.partition(":")
            places = [
                place
                for place in self.versions
                if each == "*" or (name == place.name and version in ("", place.version))
            ]
            if not places:
                raise RepositoryError(
                    f"--load-model: {each} is not in {self.repository.directory}; name a model "
                    "that is, or NAME:VERSION."
                )
            newest = max(places, key=lambda place: order(*place))
            chosen.update(places if each == "*" else [newest])
        return chosen

    # The store.

    async def _compare_with_store(self) -> None:
        """Tells the other servers what is served here, and sees what is needed.

        Raises:
          StoreError: it cannot be read.
        """
        self._observer.serves(self._catalogue.everything)
        await self.needs.compare(None if self.repository is None else self._there())

    def _there(self) -> set[str]:
        """Returns the fingerprints of which there is a bundle."""
        broken = [version.found for version in self.versions.values() if version.problem]
        # What has settled too: it may be gone for a moment only, as in an exchange.
        found = [*self.seen.values(), *(version.found for version in self.versions.values())]
        return {each.fingerprint for each in found if each not in broken} | {*self._fixed.values()}

    async def _drop_unneeded(self) -> None:
        """Forgets what nobody has needed for a while, and gives its memory back."""
        dropped = [self._catalogue.drop(fingerprint) for fingerprint in self.needs.unneeded()]
        if dropped:
            for place in [model.place for model in dropped]:
                _log.info("%s %s is unloaded: it is no longer needed", *place)
            self._observer.serves(self._catalogue.everything)
            # In the thread, since to free much takes long.
            await self._in_thread(dropped.clear)

    # Other things.

    def _require_explicit(self) -> None:
        if self._control != "explicit":
            raise errors.ModelsUncontrolled(
                "calls can load and unload models only if the server runs with --models and "
                f"--model-control explicit; this one runs with {self._control}.",
                control=self._control,
            )

    def _unknown(self, name: str, version: str, complaint: str) -> errors.ModelUnknown:
        served = self._catalogue.in_words()
        return errors.ModelUnknown(
            f"model {name[:80]} {version[:80]}".rstrip() + f" {complaint}; served are: "
            f"{served or 'none'}.",
            model=name[:80],
            model_version=version[:80],
            served=served,
        )

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        def run() -> _Result:
            before_s = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH_S)
            try:
                return work()
            finally:
                sys.setswitchinterval(before_s)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)
