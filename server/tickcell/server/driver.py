"""Moves rounds: everything that has arrived, in as few calls as it allows, and in short pieces.

A turn is one iteration of the event loop. What arrives is gathered for a few turns, as
long as more keeps arriving (see `gathering`), and becomes a round. While the last rounds
had one request each there is nothing to gather, and a request runs at once.

Whoever brings much must not make the others wait. A round that takes longer than a
slice (`pace.SLICE_S`) goes into one queue with its like, and between two short rounds
one slice of it runs. A cell whose smallest call is longer than that runs in a thread.

Rounds are the driver's, not their callers': no cancelled call and no deadline ends one.
A request whose caller has left before its round began is dropped, later never.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
import math
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

from tickcell.server import errors, rounds
from tickcell.server.clock import Moment
from tickcell.server.computing import Begun, CellCall, Stretch
from tickcell.server.entries import Entries, Entry
from tickcell.server.gathering import Gathering
from tickcell.server.grouping import Group, shares_calls
from tickcell.server.pace import SLICE_S
from tickcell.server.pieces import cut
from tickcell.server.rounds import Answer, Computed, Stepped
from tickcell.server.rules import StepRequest
from tickcell.server.storage import LATER, EmbeddedStorage, NetworkStorage, Storage
from tickcell.server.store.contract import NetworkStore

if TYPE_CHECKING:
    from tickcell.model import Cell
    from tickcell.server.heads import Heads
    from tickcell.server.observer import Observer
    from tickcell.server.policy import Policy
    from tickcell.server.record import Life
    from tickcell.server.room import Count
    from tickcell.server.rounds import Commit, Load, Request
    from tickcell.server.store import EmbeddedStore
    from tickcell.server.store.contract import Key

    Moves = Generator[Any, Any, None]
    _Failed = Callable[[str, Exception], errors.TickcellError]

_Result = TypeVar("_Result")

# After so many turns with one request each, the next is expected to have one, too.
_LONE_TURNS = 8
# The most that one round begins with: to decide on so much takes about a slice.
_ROUND_REQUESTS = 256
_ROUND_BYTES = 64 * 1024
# Of one caller at once, that join the ticks of others: many such callers are still one round.
_FEW_REQUESTS = 16
# A lone step of so few bytes is a single call of a few rows.
_TICK_BYTES = 1024

_log = logging.getLogger(__name__)


class _Job:
    """A round on its way, or another piece of work that is done in slices.

    Attributes:
      moves: yields what it needs.
      entries: of the requests that it answers.
      result: what it is sent next: a value, or an exception to raise there.
    """

    __slots__ = ("entries", "moves", "result")

    def __init__(self, moves: Moves, entries: Sequence[Entry] = ()) -> None:
        self.moves = moves
        self.entries = entries
        self.result: Any = None


class Driver:
    """Takes requests to rounds, and rounds to the store and the cells."""

    def __init__(
        self,
        store: EmbeddedStore | NetworkStore,
        heads: Heads,
        policy: Policy,
        observer: Observer,
        wall_ns: Callable[[], int],
    ) -> None:
        self._store = store
        self._heads = heads
        self._policy = policy
        self._observer = observer
        # What the observer hears when the answers are on their way.
        self._untold: list[tuple[Any, ...]] = []
        self._wall_ns = wall_ns
        self._entries = Entries()
        self._arrived: collections.deque[Entry] = collections.deque()
        self._short: collections.deque[_Job] = collections.deque()
        self._long: collections.deque[_Job] = collections.deque()
        self._slow: list[Begun] = []
        self._is_slow_busy = False
        self._storage: Storage = (
            NetworkStorage(store, observer, self._resume)
            if isinstance(store, NetworkStore)
            else EmbeddedStorage(store, observer, self._untold, self._resume)
        )
        self._sync = self._storage.sync
        self._cells = futures.ThreadPoolExecutor(1, "cell")
        # Cells that are readied for stretches, or were.
        self._preparing: weakref.WeakSet[Cell] = weakref.WeakSet()
        self._is_due = self._has_run = False
        self._lone_turns = 0
        self._gathering = Gathering()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in its hands."""
        return not (self._entries or self._long)

    def enter(self, request: Request) -> Entry:
        """Lets a request take part in a round; it may be answered before this returns."""
        if self._observer.spans is not None:
            self._observer.spans.describe(request)
        entry = Entry(request)
        if self._entries.add(entry):
            if self._lone_turns < _LONE_TURNS or self._has_run or self._arrived:
                self._arrived.append(entry)
            else:
                self._enter_alone(entry)
            self._wake()
        return entry

    def enter_together(self, requests: Sequence[StepRequest]) -> list[Entry]:
        """Lets requests of different sessions take part in one round.

        Few join what else has arrived. Many are a round of their own, or several, in the
        long queue: so the ticks of others wait for a slice of it, and not for all of it.
        """
        entries = [Entry(request) for request in requests]
        first = [entry for entry in entries if self._entries.add(entry)]
        pieces = [*cut(first, _size, _ROUND_REQUESTS, _ROUND_BYTES)]
        if len(pieces) == 1 and len(first) <= _FEW_REQUESTS:
            self._arrived.extend(first)
        else:
            self._long.extend([_Job(self._whole_round(piece), piece) for piece in pieces])
        self._wake()
        return entries

    async def lives(self, requests: Sequence[StepRequest]) -> dict[Key, Life]:
        """Returns the lives that requests of different sessions mean, as far as they are there."""
        found, missing = rounds.known(requests, self._heads)
        for start in range(0, len(missing), _ROUND_REQUESTS):
            done: asyncio.Future[dict[Key, Life]] = asyncio.get_running_loop().create_future()
            piece = missing[start : start + _ROUND_REQUESTS]
            self._long.append(_Job(_ending(rounds.learn(piece, self._heads), done)))
            self._wake()
            found |= await done
        return found

    def in_slice(self, work: Callable[[], _Result]) -> asyncio.Future[_Result]:
        """Does in its turn what takes no longer than a slice; it is not done for one who left."""
        done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._long.append(_Job(_doing(work, done)))
        self._wake()
        return done

    def durable(self) -> asyncio.Future[None]:
        """Returns what is done once all that is committed by now is as durable as promised."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if durable.done():
                return
            if error is None:
                durable.set_result(None)
            else:
                durable.set_exception(error)

        if self._sync is not None:
            self._sync.then(done)
        else:
            done(None)
        return durable

    def close(self) -> None:
        """Waits for the threads to end; what they did is of no use any more."""
        self._cells.shutdown(cancel_futures=True)
        self._storage.close()

    # Turns.

    def _enter_alone(self, entry: Entry) -> None:
        request, size = entry.request, entry.request.size
        if size > _ROUND_BYTES:
            self._arrived.append(entry)
            return
        self._has_run = True
        is_tick = isinstance(request, StepRequest) and request.step_count == 1
        is_whole = is_tick and size <= _TICK_BYTES
        self._move(_Job(self._round([entry], is_whole=is_whole), [entry]))

    def _wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Runs one short round, and one slice of a long one; or waits for more of a round."""
        self._is_due = False
        if self._untold:
            self._tell()
        if self._may_wait() and self._gathering.goes_on(len(self._arrived)):
            self._wake()
            return
        count = int(self._has_run)
        self._has_run = False
        if self._short:
            self._move(self._short.popleft())
        elif self._arrived:
            entries = self._gather()
            count += len(entries)
            if entries:
                self._move(_Job(self._round(entries), entries))
        if count:
            self._lone_turns = self._lone_turns + 1 if count == 1 else 0
        if self._long and not self._move(self._long[0], time.perf_counter() + SLICE_S):
            self._long.popleft()
        if self._arrived or self._short or self._long or self._untold:
            self._wake()

    def _may_wait(self) -> bool:
        """Says whether nothing but the next round is due, and it is not full yet."""
        return 0 < len(self._arrived) < _ROUND_REQUESTS and not (self._short or self._long)

    def _tell(self) -> None:
        """Tells the observer what it has not heard yet."""
        untold = self._untold[:]
        self._untold.clear()
        for tell, *what in untold:
            try:
                tell(*what)
            except Exception:  # noqa: BLE001 - the edge: logged; what it hears of is done.
                _log.exception("the observer failed")

    def _gather(self) -> list[Entry]:
        """Takes from what has arrived as much as one round may begin with."""
        entries: list[Entry] = []
        size = 0
        while self._arrived and len(entries) < _ROUND_REQUESTS and size < _ROUND_BYTES:
            entry = self._arrived.popleft()
            own_size = entry.request.size
            if entry.is_left and not entry.has_begun:
                self._remove(entry.request.key)
            elif own_size > _ROUND_BYTES:
                self._long.append(_Job(self._round([entry], is_whole=True), [entry]))
            else:
                size += own_size
                entries.append(entry)
        return entries

    def _parted(self, begun: Sequence[Begun | Computed]) -> Sequence[Begun | Computed]:
        """Returns what is within a slice together, and schedules the rest."""
        groups: list[Group] = []
        bulk: dict[str, list[Begun]] = {}
        for item in begun:
            if isinstance(item, Begun) and item.model.pace.is_slow:
                self._slow.append(item)
                continue
            if groups and groups[-1].takes(item):
                continue
            group = Group(item)
            is_long = group.time_s > SLICE_S
            if isinstance(item, Begun) and shares_calls(item) and (groups or is_long):
                # Longer than a slice together, and much less long than one by one.
                bulk.setdefault(item.model.fingerprint, []).append(item)
            elif is_long:
                self._long.append(self._finish_of([item]))
            else:
                groups.append(group)
        self._long.extend([self._finish_of(together) for together in bulk.values()])
        if self._slow and not self._is_slow_busy:
            self._is_slow_busy = True
            self._move(_Job(self._finish_slow()))
        if not groups:
            return ()
        self._short.extend([self._finish_of(group.items) for group in groups[1:]])
        return groups[0].items

    # Rounds.

    def _whole_round(self, entries: list[Entry]) -> Moves:
        """Does a round of what has waited for it; what was left meanwhile is dropped from it."""
        for entry in [each for each in entries if each.is_left]:
            entries.remove(entry)
            self._remove(entry.request.key)
        if entries:
            yield from self._round(entries, is_whole=True)

    def _finish_of(self, begun: Sequence[Begun | Computed]) -> _Job:
        return _Job(self._finish(begun), [self._entries.first(item.key) for item in begun])

    def _round(self, entries: Sequence[Entry], *, is_whole: bool = False) -> Moves:
        """Begins a round, and finishes what needs no more than a slice together; or all."""
        requests = []
        for entry in entries:
            entry.has_begun = True
            requests.append(entry.request)
        try:
            now = Moment(self._store.now_ns(), self._wall_ns())
            begun, to_load = rounds.begin(requests, self._heads, self._policy, now)
            answers: rounds.Answers = []
            self._observer.head_hits += len(begun)
            if to_load:
                loaded = rounds.begin_loaded(to_load, self._heads, self._policy, now)
                more, answers = yield from loaded
                begun += more
        except Exception as error:  # noqa: BLE001 - the edge: answered, and logged if unforeseen.
            refusals = [(request.key, rounds.refusal(request.key, error)) for request in requests]
            self._give(refusals, errors.store_away)
            return
        if answers:
            self._give(answers, errors.store_away)
        parted = begun if is_whole else self._parted(begun)
        if parted:
            yield from self._finish(parted)

    def _finish(self, begun: Sequence[Begun | Computed]) -> Moves:
        try:
            answers, again = yield from rounds.finish(begun, self._heads)
        except Exception as error:  # noqa: BLE001 - the edge: logged, and answered.
            self._abandon([self._entries.first(item.key) for item in begun], error)
            return
        self._observer.round_ended(begun, answers, again, self._entries.first)
        if self._observer.flight is not None:
            requests = [self._entries.first(item.key).request for item in begun]
            heard = (begun, requests, answers, self._wall_ns())
            self._untold.append((self._observer.flight.applied, *heard))
        if again:
            self._arrived.extendleft(self._entries.first(key) for key in reversed(again))
            self._wake()
        self._give(answers, errors.outcome_unknown)

    def _finish_slow(self) -> Moves:
        """Finishes what slow cells step: all of one cell that has come until the last is done."""
        try:
            while self._slow:
                model = self._slow[0].model
                group = [item for item in self._slow if item.model is model]
                self._slow = [item for item in self._slow if item.model is not model]
                yield from self._finish(group)
        finally:
            self._is_slow_busy = False

    def _abandon(self, entries: Sequence[Entry], error: Exception) -> None:
        """Answers those of whom a fault of ours has left it open what became of them."""
        _log.error("a round of %d requests failed", len(entries), exc_info=error)
        for entry in entries:
            key = entry.request.key
            if not entry.is_settled:
                self._heads.forget(key)
                self._remove(key).settle(errors.outcome_unknown(key.session, repr(error)))

    def _give(self, answers: Sequence[tuple[Key, Answer]], failed: _Failed) -> None:
        """Answers, as soon as what is answered is durable.

        Args:
          answers: by session.
          failed: what is answered where it cannot be made durable.
        """
        if answers and self._sync is not None:
            self._sync.then(functools.partial(self._give_synced, answers, failed))
            return
        self._answer_all(answers)

    def _give_synced(
        self, answers: Sequence[tuple[Key, Answer]], failed: _Failed, error: Exception | None
    ) -> None:
        if error is not None:
            self._observer.store_failed(error)
            for key, _ in answers:
                self._heads.forget(key)
            answers = [(key, failed(key.session, error)) for key, _ in answers]
        self._answer_all(answers)
        self._wake()

    def _answer_all(self, answers: Sequence[tuple[Key, Answer]]) -> None:
        now_ns = time.perf_counter_ns()
        stepped = []
        for key, answer in answers:
            entry = self._remove(key)
            entry.settle(answer)
            if isinstance(answer, Stepped):
                stepped.append((entry, answer))
        if stepped:
            self._untold.append((self._observer.stepped, stepped, now_ns))

    def _remove(self, key: Key) -> Entry:
        entry, following = self._entries.remove(key)
        if following is not None:
            self._arrived.append(following)
            self._wake()
        return entry

    # What rounds need.

    def _move(self, job: _Job, until_s: float = math.inf) -> bool:
        """Moves a job on; returns whether it could go on, but that the time is up."""
        moves, result = job.moves, job.result
        try:
            need = moves.throw(result) if isinstance(result, Exception) else moves.send(result)
            while True:
                try:
                    result = self._perform(job, need)
                except Exception as error:  # noqa: BLE001 - the round's to judge.
                    need = moves.throw(error)
                    continue
                if result is LATER:
                    return False
                if until_s != math.inf and time.perf_counter() > until_s:
                    job.result = result
                    return True
                need = moves.send(result)
        except StopIteration:
            return False
        except Exception as error:  # noqa: BLE001 - the edge: logged, and answered.
            self._abandon(job.entries, error)
            return False

    def _resume(self, job: _Job, result: Any) -> None:
        job.result = result
        self._move(job)
        self._wake()

    def _perform(self, job: _Job, need: Load | Count | CellCall | Commit) -> Any:
        """Does what a job needs, and returns what came of it or `LATER`."""
        if isinstance(need, CellCall):
            if isinstance(need, Stretch) and not need.model.cell.is_prepared:
                self._prepare(need.model.cell)
            if not need.model.pace.is_slow:
                start_ns = time.perf_counter_ns()
                made = need.compute()
                taken_ns = time.perf_counter_ns() - start_ns
                self._untold.append((self._observer.computed, need.model, taken_ns))
                return made
            return self._call_in_thread(job, need)
        return self._storage.meet(job, need)

    def _prepare(self, cell: Cell) -> None:
        """Has a cell readied for stretches, once; steps go on meanwhile as they do without."""
        if cell in self._preparing:
            return
        self._preparing.add(cell)
        prepared = self._cells.submit(cell.prepare)

        def done(_: object) -> None:
            if not prepared.cancelled() and (error := prepared.exception()) is not None:
                _log.error("a cell was not readied for stretches", exc_info=error)

        prepared.add_done_callback(done)

    def _call_in_thread(self, job: _Job, call: CellCall) -> object:
        start_ns = time.perf_counter_ns()

        def resume(done: asyncio.Future[Any]) -> None:
            error = done.exception()
            if error is None:
                self._observer.computed(call.model, time.perf_counter_ns() - start_ns)
            self._resume(job, error or done.result())

        called = asyncio.get_running_loop().run_in_executor(self._cells, call.compute)
        called.add_done_callback(resume)
        return LATER


def _size(entry: Entry) -> int:
    return entry.request.size


def _ending(moves: Generator[Any, Any, _Result], done: asyncio.Future[_Result]) -> Moves:
    """Goes through some moves for what they return."""
    if done.cancelled():
        return
    try:
        result = yield from moves
    except Exception as error:  # noqa: BLE001 - raised where it is awaited.
        if not done.done():
            done.set_exception(error)
    else:
        if not done.done():
            done.set_result(result)


def _doing(work: Callable[[], _Result], done: asyncio.Future[_Result]) -> Moves:
    """Does some work within one slice."""
    if done.cancelled():
        return
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - raised where it is awaited.
        done.set_exception(error)
    else:
        done.set_result(result)
    return
    yield
