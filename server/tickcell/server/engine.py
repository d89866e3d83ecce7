"""The engine: sessions of one store, advanced by the models of one catalogue.

    store + catalogue + clock + rules + lives + observer

Every service is an adapter over it: no service knows another, and the engine knows
none. Every call names its caller, which sees only the sessions of its owner.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from tickcell.server import (
    allowance,
    beginnings,
    errors,
    handovers,
    lives,
    model_versions,
    record,
    rounds,
    rules,
)
from tickcell.server.driver import Driver
from tickcell.server.entries import all_answers
from tickcell.server.heads import Heads
from tickcell.server.in_slices import InSlices
from tickcell.server.life_requests import Begin, Create, Delete, End, Get, Recall, Reset, Touch
from tickcell.server.migration import BurnIn, FindMigrated, Migrate
from tickcell.server.model_control import ModelControl
from tickcell.server.pieces import Pieces
from tickcell.server.policy import Policy
from tickcell.server.repository import Repository
from tickcell.server.rounds import Stepped
from tickcell.server.state_requests import (
    Claim,
    CreateFrom,
    Export,
    FindCreated,
    Move,
    ReadOutputs,
)
from tickcell.server.store.contract import Key, NetworkStore
from tickcell.server.store.errors import StoreAwayError, StoreError
from tickcell.server.sweep import Sweep
from tickcell.server.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from tickcell.server.caller import Caller
    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.config import Config
    from tickcell.server.life_requests import Creation
    from tickcell.server.model_versions import ModelVersion
    from tickcell.server.observer import Observer
    from tickcell.server.preview import Previewed, PreviewRequest
    from tickcell.server.quotas import Quotas
    from tickcell.server.record import Record
    from tickcell.server.rounds import Request
    from tickcell.server.rules import StepRequest
    from tickcell.server.store import EmbeddedStore
    from tickcell.server.store.contract import AwaitedStore, Counts

_Shown = TypeVar("_Shown")
_Result = TypeVar("_Result")

# The most records of a list in one slice: to read, decode and show them takes about a millisecond.
_LIST_SLICE = 32
_IDLE_CHECK_S = 0.005
# What a refusal of a list names, where others name a session.
_LIST = Key("", "sessions")

_log = logging.getLogger(__name__)


class Engine:
    """Everything that can be done with sessions.

    Every method may raise RecordDamaged and RecordNewer, where a session's record cannot
    be read; StoreFull, StoreBusy, StoreAway and StoreDamaged, in which case nothing was
    done; and OutcomeUnknown.

    Attributes:
      catalogue: the models that are served.
      models: what loads and unloads them.
      observer: hears of everything.
    """

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        store: EmbeddedStore | NetworkStore,
        observer: Observer,
        wall_ns: Callable[[], int] = time.time_ns,
        quotas: Quotas | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.observer = observer
        observer.serves(catalogue)
        self._limits = config.limits
        policy = Policy.of(config, catalogue, quotas)
        self._quotas = policy.quotas
        heads = Heads()
        self._driver = Driver(store, heads, policy, observer, wall_ns)
        self._store: AwaitedStore = (
            store if isinstance(store, NetworkStore) else InSlices(store, self._driver.in_slice)
        )
        repository = None if config.models is None else Repository(config.models)
        self.models = ModelControl(repository, config.control, catalogue, self._store, observer)
        sweep = Sweep(self._store, self._driver, policy)
        self._upkeep = Upkeep(self._store, heads, sweep, observer, models=self.models.keep_up)

    @property
    def store_id(self) -> str:
        """Identifies the store."""
        return self._store.id

    def step(self, request: StepRequest) -> Awaitable[Stepped]:
        """Advances a session, or returns the stored answer.

        Raises, when awaited:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted, FrameShape, FrameNotFinite, ArgumentInvalid,
            StepStale, StepGap, StepConflict: see `rules.decide`.
          ModelNotServed, NumericsChanged, FrameOutOfRange, OutputNotFinite: new steps
            cannot be computed.

        Raises, at once:
          OwnerRateExceeded: its owner has taken as many ticks as it may for now.
        """
        if self._quotas.have_rates:
            self._quotas.take(request)
        if self.models.repository is None:
            return self._driver.enter(request)
        return self._with_its_model(request)

    async def step_together(
        self, requests: Sequence[StepRequest]
    ) -> list[Stepped | errors.TickcellError]:
        """Advances different sessions, each as `step` does, in as few rounds as it allows.

        Returns:
          The result of each request, in order: what `step` returns or raises.

        Raises:
          ArgumentInvalid: they are more than one message may hold; see `allowance.check`.
        """
        allowance.check(requests, await self._driver.lives(requests), self._limits)
        if self.observer.spans is not None:
            self.observer.spans.describe_several(requests)
        answers: dict[Key, Stepped | errors.TickcellError] = {}
        taken = requests
        if self._quotas.have_rates:
            taken = []
            for request in requests:
                try:
                    self._quotas.take(request)
                except errors.OwnerRateExceeded as error:
                    answers[request.key] = error
                else:
                    taken.append(request)
        answers |= await self._answers(taken)
        if self.models.repository is not None:
            answers |= await self._answers(
                [request for request in taken if await self._has_found_model(answers[request.key])]
            )
        return [answers[request.key] for request in requests]

    async def create(
        self,
        caller: Caller,
        model: ServedModel,
        wanted: Creation,
        start: beginnings.Start | None = None,
        origin: beginnings.Start | None = None,
    ) -> Record:
        """Creates a session, or returns the one that the same request created.

        Args:
          caller: whose it is.
          model: which it is pinned to.
          wanted: what it is made of.
          start: what it begins with; None for the cell's own beginning.
          origin: to what a reset returns, likewise.

        Raises:
          SessionExists, SessionClaimed, SessionDeleted, SessionExpired: see `beginnings.create`.
          ArgumentInvalid: see `life_requests.Create`.
          SessionsFull, OwnerSessionsFull: as many are alive as there may be, or of its owner.
        """
        request = Create(caller.key(wanted.session), model, wanted, start, origin)
        created: Record = await self._driver.enter(request)
        return created

    async def begin(
        self, model: ServedModel, wanted: Creation, first: StepRequest
    ) -> tuple[Record, Stepped]:
        """Begins a life with its first steps; one that is alive ends thereby.

        The life begins in one commit, and its steps are the next: nothing that asks here
        for the session comes between the two. Where the steps are refused after all, for
        they are computed only then, the life has begun. The same request returns the life
        that it began.

        Args:
          model: which the life is pinned to.
          wanted: what it is made of.
          first: its first steps, under the generation that it is to have.

        Returns:
          The record with which the life began, or as it is now; and the steps' answer.

        Raises:
          SessionDeleted, SessionExpired, SessionClaimed, SessionRestarted: see `beginnings.begin`.
          ArgumentInvalid, FrameShape, FrameNotFinite, FrameOutOfRange: see
            `life_requests.Begin`; nothing has begun.
          SessionsFull, OwnerSessionsFull: as many are alive as there may be, or of its owner.
          OwnerRateExceeded: its owner has taken as many ticks as it may for now.
        """
        if self._quotas.have_rates:
            self._quotas.take(first)
        request = Begin(model, wanted, first)
        beginning, stepping = self._driver.enter(request), self._driver.enter(first)
        begun: Record = await beginning
        has_begun = begun is request.made
        try:
            return begun, await stepping
        except (errors.StoreBusy, errors.StoreAway, errors.StoreFull) as error:
            if not has_begun:
                raise
            why = f"a life was begun, but its first steps were refused with {error.reason}"
            raise errors.outcome_unknown(first.session, why) from error

    async def get(self, caller: Caller, session: str) -> Record:
        """Returns a live session's record.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
        """
        found: Record = await self._driver.enter(Get(caller.key(session)))
        return found

    async def touch(self, caller: Caller, session: str, generation: int) -> Record:
        """Renews a session.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted: another generation is meant.
        """
        touched: Record = await self._driver.enter(Touch(caller.key(session), generation))
        return touched

    async def reset(self, caller: Caller, session: str, generation: int, request_id: str) -> Record:
        """Starts a session again from the state with which it was created.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted: another generation is meant.
          ModelNotServed: its model, which gives the initial state, is not served.
        """
        request = Reset(caller.key(session), generation, request_id)
        begun: Record = await self._with_its_model(request)
        return begun

    async def claim(
        self, caller: Caller, session: str, generation: int | None, request_id: str
    ) -> Record:
        """Hands a session over to the caller, under a new generation.

        Args:
          caller: who takes it.
          session: its id.
          generation: the one that the caller saw; None for whichever lives.
          request_id: identifies the request; its repetition returns the claim.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted: another generation is meant.
        """
        request = Claim(caller.key(session), generation, request_id)
        claimed: Record = await self._driver.enter(request)
        return claimed

    async def read_outputs(
        self,
        caller: Caller,
        session: str,
        generation: int,
        first_step: int | None,
        step_count: int,
    ) -> Stepped:
        """Returns the outputs of steps that are in the window; see `rules.window_steps`.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted: another generation is meant.
          ArgumentInvalid, StepStale, StepGap: the window does not have the steps.
        """
        request = ReadOutputs(caller.key(session), generation, first_step, step_count)
        found: Record = await self._driver.enter(request)
        first, count = request.steps(found)
        outputs = rules.stored_outputs(found, first, count)
        return Stepped(found.life, first, outputs, found.history_before(first + count), count)

    async def preview(self, request: PreviewRequest) -> Previewed:
        """Returns the outputs that a session would have; applies and renews nothing.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted, FrameShape, ArgumentInvalid, StepGap, FrameNotFinite,
            FrameOutOfRange: see `preview.check` and `preview.check_readings`.
          ModelNotServed, NumericsChanged, OutputNotFinite: the steps cannot be computed.
          OwnerRateExceeded: its owner has taken as many ticks as it may for now.
        """
        if self._quotas.have_rates:
            self._quotas.take(request.steps)
        previewed: Previewed = await self._with_its_model(request)
        return previewed

    async def fork(
        self, source: Key, generation: int, step: int | None, caller: Caller, wanted: Creation
    ) -> Record:
        """Creates a session that continues from another one's state, or returns it.

        Args:
          source: the session that is forked.
          generation: the life of it that is meant.
          step: where it must stand; None for wherever it does.
          caller: whose the new session is.
          wanted: what it is made of; of its source it has model, series and window.

        Raises:
          SessionExists, SessionClaimed, SessionDeleted, SessionExpired: see `beginnings.create`.
          SessionUnknown, SessionDeleted, SessionExpired: the source is not alive.
          SessionClaimed, SessionRestarted, ArgumentInvalid, StepStale, StepGap: see
            `handovers.fork`.
          SessionsFull, OwnerSessionsFull: as many are alive as there may be, or of its owner.
        """
        # First of all: the source of a fork that is asked for again may have gone on, or be gone.
        earlier = FindCreated(caller.key(wanted.session), wanted.request_id)
        created: Record | None = await self._driver.enter(earlier)
        if created is not None and earlier.is_by_it(created):
            return created
        found: Record = await self._driver.enter(Get(source))
        start = handovers.fork(found, source.session, generation, step)
        life = found.life
        sized = wanted._replace(series_count=life.series_count, window=life.window)
        forked: Record = await self._driver.enter(CreateFrom(earlier.key, sized, life, start))
        return forked

    async def export(
        self, caller: Caller, session: str, generation: int, ends_by: str
    ) -> tuple[Record, ServedModel]:
        """Returns what an export of a session is made of: its record and its model.

        Args:
          caller: whose it is.
          session: its id.
          generation: the one that is meant.
          ends_by: the request that exports and ends it in one commit, and returns it again;
            "" if it goes on.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired, SessionMoved: it is not alive.
          SessionClaimed, SessionRestarted: another generation is meant.
          ModelNotServed: its model, which names its state tensors, is not served.
        """
        key = caller.key(session)
        request = Move(key, generation, ends_by) if ends_by else Export(key, generation)
        exported: Record = await self._with_its_model(request)
        return exported, self.catalogue.pinned_to(exported, session)

    async def migrate(
        self,
        caller: Caller,
        session: str,
        generation: int,
        request_id: str,
        version: str,
        burn_in: BurnIn | None,
    ) -> Record:
        """Moves a session to another version of its model, under a new generation.

        Args:
          caller: whose it is.
          session: its id.
          generation: the one that is meant.
          request_id: identifies the request; its repetition returns the session.
          version: of the session's model; "" for the newest.
          burn_in: the session whose state is taken; None to keep the session's own.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired, SessionMoved: it is not alive, or the
            one that was burnt in is not.
          SessionClaimed, SessionRestarted: another generation is meant, of one of the two.
          ModelUnknown, ModelNotServed: that version is not served, or the session's own.
          MigrationRefused, ArgumentInvalid, StepStale, StepGap: see `migration`.
        """
        key = caller.key(session)
        # First of all: what was burnt in for a request that is sent again may be gone.
        earlier = FindMigrated(key, generation, request_id)
        found: Record = await self._driver.enter(earlier)
        if earlier.is_done(found):
            return found
        model = self.catalogue.find(found.life.model, version)
        burnt_in: Record | None = None
        burnt_in_session = ""
        if burn_in is not None:
            burnt_in_session = burn_in.session
            burnt_in = await self._driver.enter(Get(caller.key(burn_in.session)))
            burn_in.check(burnt_in, model)
        request = Migrate(key, generation, request_id, model, burnt_in, burnt_in_session)
        migrated: Record = await self._with_its_model(request)
        return migrated

    async def model_of(self, fingerprint: str) -> ServedModel | None:
        """Returns the model of a fingerprint, which is looked for once; None if there is none."""
        if self.catalogue.loaded(fingerprint) is None:
            await self.models.search(fingerprint)
        return self.catalogue.loaded(fingerprint)

    async def delete(self, caller: Caller, session: str, generation: int) -> None:
        """Deletes a session; deleting the same generation again succeeds.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted: another generation is meant.
        """
        await self._driver.enter(Delete(caller.key(session), generation))

    async def end(self, caller: Caller, session: str, generation: int) -> None:
        """Ends a session, and keeps its window for those who ask again; see `recall`.

        Ending the same generation again succeeds.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionClaimed, SessionRestarted: another generation is meant.
        """
        await self._driver.enter(End(caller.key(session), generation))

    async def recall(self, caller: Caller, session: str) -> Record:
        """Returns the record of a session that is alive, or whose end is remembered.

        Raises:
          SessionUnknown: it is neither.
        """
        recalled: Record = await self._driver.enter(Recall(caller.key(session)))
        return recalled

    async def list_model_versions(self) -> list[ModelVersion]:
        """Returns what is known of every version of the models, by name, then version."""
        pinned = await self._read(self._store.pinned())
        return model_versions.every(self.models, self.catalogue, pinned)

    async def list_live(
        self,
        owner: str | None,
        behind: Key | None,
        limit: int,
        show: Callable[[list[tuple[Key, Record]]], _Shown],
    ) -> tuple[list[_Shown], Key | None]:
        """Shows some live sessions, ordered by owner and id, a few at a time.

        Args:
          owner: whose sessions; None for those of all owners, which an operator may see.
          behind: behind which to begin; None for the beginning.
          limit: how many records to look at; there may be fewer live ones.
          show: makes of some keys and records what is wanted.

        Returns:
          What `show` returned, and behind which to go on; None at the end.
        """
        shown: list[_Shown] = []
        last = behind
        pieces = Pieces(_LIST_SLICE)
        while limit > 0:
            count = min(limit, pieces.count)
            found = await self._read(self._store.scan(owner, last, count))
            shown.append(await self.in_slice(functools.partial(self._show, found, show)))
            pieces.note(found)
            if len(found) < count:
                last = None
                break
            last = found[-1][0]
            limit -= count
        await self._read_durable()
        return shown, last

    async def reach_store(self) -> None:
        """Checks whether the store can be reached; tells health if not."""
        try:
            await self._store.counts()
        except StoreAwayError:
            self.observer.health.store_is_away()

    async def counts(self) -> Counts:
        """Returns how many sessions the store has."""
        return await self._read(self._store.counts())

    def keep_up(self) -> Coroutine[Any, Any, None]:
        """Does the upkeep each second, until it is cancelled."""
        return self._upkeep.run()

    async def in_slice(self, work: Callable[[], _Result]) -> _Result:
        """Does a service's own work, of no longer than a slice, when it is its turn."""
        return await self._driver.in_slice(work)

    async def finish(self, limit_s: float) -> None:
        """Waits until every round has ended, but no longer than that."""
        deadline_s = time.monotonic() + limit_s
        while not self._driver.is_idle and time.monotonic() < deadline_s:
            await asyncio.sleep(_IDLE_CHECK_S)
        if not self._driver.is_idle:
            _log.warning("requests were left unanswered after %g s", limit_s)

    def close(self) -> None:
        """Waits for the threads to end; the store can be closed then."""
        self._store.release()
        self.models.close()
        self._driver.close()

    async def _with_its_model(self, request: Request) -> Any:
        """Answers a request, which begins again if the session's model had to be looked for."""
        try:
            return await self._driver.enter(request)
        except errors.ModelNotServed as error:
            if not await self.models.search(error.metadata["model_fingerprint"]):
                raise
        return await self._driver.enter(request)

    async def _has_found_model(self, answer: Stepped | errors.TickcellError) -> bool:
        """Says whether an answer is that a model is not served, which by now it is."""
        if not isinstance(answer, errors.ModelNotServed):
            return False
        return await self.models.search(answer.metadata["model_fingerprint"])

    async def _answers(
        self, requests: Sequence[StepRequest]
    ) -> dict[Key, Stepped | errors.TickcellError]:
        """Answers requests of different sessions, by session."""
        answers: list[Any] = await all_answers(self._driver.enter_together(requests))
        return dict(zip([request.key for request in requests], answers, strict=True))

    async def _read(self, reading: Awaitable[_Result]) -> _Result:
        """Awaits what is read from the store; what fails is a refusal."""
        try:
            return await reading
        except StoreError as error:
            self.observer.store_failed(error)
            raise rounds.refusal(_LIST, error) from error

    async def _read_durable(self) -> None:
        """Waits until what was read is durable; it may be another server's latest commit."""
        try:
            await self._driver.durable()
        except StoreError as error:
            self.observer.store_failed(error)
            raise rounds.refusal(_LIST, error) from error

    def _show(
        self,
        found: list[tuple[Key, bytes]],
        show: Callable[[list[tuple[Key, Record]]], _Shown],
    ) -> _Shown:
        """Shows those that are alive."""
        return show(self._live(found))

    def _live(self, found: list[tuple[Key, bytes]]) -> list[tuple[Key, Record]]:
        """Returns the keys and records of those that are alive."""
        now_ns = self._store.now_ns()
        live = []
        for key, encoded in found:
            try:
                current = record.decode(key, encoded)
            except (errors.RecordDamaged, errors.RecordNewer) as error:
                # Not known to be alive, and no reason to hide those that are.
                _log.error("%s", error)
                continue
            if not lives.has_ended(current, now_ns):
                live.append((key, current))
        return live
