"""A round: requests of different sessions, answered together. It decides, and does no I/O.

    request -> begun -> computed -> answer

`begin` asks for the records that it needs, and by the rules separates stored steps from
those to compute. `finish` steps the cells, hands over the changes, and answers the
requests whose changes the store accepted. Both are generators: each yields what it needs
next as a value (`Load`, `Count`, a `CellCall`, `Commit`), and is sent the result. The
driver may provide that at once, in a thread, or later; a round cannot tell.

A request begins from its session's head, or else from a load. Only its own commit or a
load answers it. So a result that began from a head and was not confirmed by a commit (a
refusal, a stored answer, a lost commit or a fault) begins again from a load.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tickcell.server import computing, errors, lives, preview, record, rules
from tickcell.server.computing import Begun, CellCall, Result
from tickcell.server.heads import NOTHING, Head
from tickcell.server.preview import Previewed, PreviewRequest
from tickcell.server.record import Record
from tickcell.server.room import Count, Room
from tickcell.server.rules import StepRequest
from tickcell.server.store.contract import (
    Applied,
    Change,
    Contended,
    Full,
    Key,
    Lost,
    Unknown,
    Verdict,
)
from tickcell.server.store.errors import StoreDamagedError, StoreError
from tickcell.wire import history

if TYPE_CHECKING:
    from tickcell.server.clock import Moment
    from tickcell.server.heads import Heads
    from tickcell.server.policy import Policy
    from tickcell.server.record import Life

_log = logging.getLogger(__name__)

# How long a commit waits while another process has the store locked.
STORE_WAIT_S = 1.0


class LifeRequest(Protocol):
    """A request that creates, shows, renews or ends a session.

    Attributes:
      key: of the session.
      size: the bytes that it brings.
    """

    @property
    def key(self) -> Key: ...

    @property
    def size(self) -> int: ...

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record | None:
        """Returns the session's next record: the old one for no change, None for none.

        Raises:
          TickcellError: the request is refused.
        """
        ...


Request = StepRequest | PreviewRequest | LifeRequest


class Load(NamedTuple):
    """Needs the records of some keys: sent a list of bytes, or None for no record."""

    keys: list[Key]


class Commit(NamedTuple):
    """Needs changes to be committed, however long the store is locked: sent a verdict for each."""

    changes: list[Change]


class Stepped(NamedTuple):
    """The answer to a step request.

    Attributes:
      life: the session's.
      first_step: the index of the request's first step.
      outputs: `[T, B, O]` float32.
      history: after the request's last step.
      stored: how many of its steps, from the first on, were answered from the window; the
        rest were computed.
    """

    life: Life
    first_step: int
    outputs: bytes
    history: bytes
    stored: int

    @property
    def generation(self) -> int:
        """The session's."""
        return self.life.generation


# A life request is answered with the record that is there then.
Answer = Stepped | Previewed | Record | None | errors.TickcellError


class Computed(NamedTuple):
    """A request whose answer is known, and holds once its change is committed.

    Attributes:
      change: what the store is asked for.
      is_proven: whether the record was loaded for this request; else it was a head.
      record: the one that follows; None for none.
      answer: what is answered then.
    """

    change: Change
    is_proven: bool
    record: Record | None
    answer: Answer

    @property
    def key(self) -> Key:
        """The session's."""
        return self.change.key

    @property
    def adds_session(self) -> bool:
        """Whether there is one more live session then."""
        return self.change.is_live and not self.change.was_live


Answers = list[tuple[Key, Answer]]


def known(
    requests: Sequence[StepRequest], heads: Heads
) -> tuple[dict[Key, Life], list[StepRequest]]:
    """Looks for the lives that requests of different sessions mean.

    Returns:
      Those of which there is a head, and the requests of which there is none.
    """
    found = {}
    missing = []
    for request in requests:
        head = heads.get(request.key)
        if head is None or head.record is None or head.record.life.generation != request.generation:
            missing.append(request)
        else:
            found[request.key] = head.record.life
    return found, missing


def learn(requests: Sequence[StepRequest], heads: Heads) -> Generator[Load, Any, dict[Key, Life]]:
    """Loads the records of requests of different sessions, which are heads from now on.

    Returns:
      The lives that they mean, but for those that are not there.
    """
    found = {}
    keys = [request.key for request in requests]
    loaded = yield from _load(keys)
    for request, key, each in zip(requests, keys, loaded, strict=True):
        head = _loaded_head(key, each, heads)
        if isinstance(head, Head) and head.record is not None:
            life = head.record.life
            if life.generation == request.generation:
                found[key] = life
    return found


def begin(
    requests: Sequence[Request], heads: Heads, policy: Policy, now: Moment
) -> tuple[list[Begun | Computed], list[Request]]:
    """Decides on requests of different sessions by their heads.

    Returns:
      What goes on, and the requests that need a load.
    """
    begun: list[Begun | Computed] = []
    to_load = []
    for request in requests:
        head = heads.get(request.key)
        outcome = None if head is None else _decide(request, head, policy, now, is_proven=False)
        if isinstance(outcome, Begun) or (
            isinstance(outcome, Computed) and not outcome.adds_session
        ):
            begun.append(outcome)
        else:
            to_load.append(request)
    return begun, to_load


def begin_loaded(
    requests: Sequence[Request], heads: Heads, policy: Policy, now: Moment
) -> Generator[Load | Count, Any, tuple[list[Begun | Computed], Answers]]:
    """Decides on requests of different sessions by what is loaded.

    Returns:
      What goes on, and what is answered.
    """
    begun: list[Begun | Computed] = []
    answers: Answers = []
    room = Room(policy)
    loaded = yield from _load([request.key for request in requests])
    for request, found in zip(requests, loaded, strict=True):
        outcome = _from_load(request, found, heads, policy, now)
        if isinstance(outcome, Computed) and outcome.adds_session:
            outcome = (yield from room.take(request.key)) or outcome
        if isinstance(outcome, Begun | Computed):
            begun.append(outcome)
        else:
            answers.append((request.key, outcome))
    return begun, answers


def finish(
    begun: Sequence[Begun | Computed], heads: Heads
) -> Generator[CellCall | Commit, Any, tuple[Answers, list[Key]]]:
    """Computes and commits what was begun.

    Returns:
      What is answered, and the sessions whose requests begin again from a load.
    """
    answers: Answers = []
    again = []
    computed = []
    steps = []
    for item in begun:
        if isinstance(item, Begun):
            steps.append(item)
        else:
            computed.append(item)
    outcomes: list[Computed | Previewed | errors.TickcellError] = []
    try:
        results = yield from computing.compute(steps)
        for step, result in zip(steps, results, strict=True):
            outcomes.append(_advance(step, result))
    except Exception as error:  # noqa: BLE001 - the edge: answered to those whom it concerns.
        outcomes = yield from _compute_each(steps, error)
    for step, outcome in zip(steps, outcomes, strict=True):
        if isinstance(outcome, Computed):
            computed.append(outcome)
        elif step.is_proven:
            answers.append((step.key, outcome))
        else:
            heads.forget(step.key)
            again.append(step.key)
    if not computed:
        return answers, again
    changes = [each.change for each in computed]
    try:
        verdicts: Sequence[Verdict | StoreError] = yield Commit(changes)
    except StoreError as error:
        # Nothing was applied.
        verdicts = [error] * len(changes)
    except Exception as error:  # noqa: BLE001 - the edge: logged, and answered.
        # Behind the hand-over: it may be there or not, and is never run again from here.
        _log.exception("a commit of %d changes failed", len(changes))
        verdicts = [Unknown(repr(error))] * len(changes)
    for each, verdict in zip(computed, verdicts, strict=True):
        if isinstance(verdict, Lost):
            heads.forget(each.key)
            again.append(each.key)
        else:
            answers.append(_judged(each, verdict, heads))
    return answers, again


def _judged(computed: Computed, verdict: Verdict | StoreError, heads: Heads) -> tuple[Key, Answer]:
    """Returns what is answered once the store has judged a change."""
    change, _, after, answer = computed
    key = change.key
    if not isinstance(verdict, Applied):
        heads.forget(key)
        return key, refusal(key, verdict)
    if change.is_live:
        heads.put(key, Head(change.replacement, after))
    else:
        # Nothing begins from the end of a session, but for a stray request or two.
        heads.forget(key)
    return key, answer


def _from_load(
    request: Request, found: bytes | Exception | None, heads: Heads, policy: Policy, now: Moment
) -> Begun | Computed | Answer:
    """Decides on a request by what was loaded, which is the session's head from now on."""
    head = _loaded_head(request.key, found, heads)
    if isinstance(head, errors.TickcellError):
        return head
    return _decide(request, head, policy, now, is_proven=True)


def _loaded_head(
    key: Key, found: bytes | Exception | None, heads: Heads
) -> Head | errors.TickcellError:
    """Makes what was loaded the session's head."""
    if isinstance(found, Exception):
        heads.forget(key)
        return refusal(key, found)
    head = heads.get(key)
    if found is None:
        head = NOTHING
    elif head is None or head.encoded != found:
        try:
            head = Head(found, record.decode(key, found))
        except (errors.RecordDamaged, errors.RecordNewer) as error:
            heads.forget(key)
            return error
    heads.put(key, head)
    return head


def _decide(
    request: Request, head: Head, policy: Policy, now: Moment, *, is_proven: bool
) -> Begun | Computed | Answer:
    """Applies the rules to a request and the record that it finds."""
    try:
        if isinstance(request, StepRequest):
            return _decide_step(request, head, policy, now, is_proven)
        if isinstance(request, PreviewRequest):
            # A preview has no commit by which a head could be proven.
            return _decide_preview(request, head, policy, now) if is_proven else None
        return _decide_life(request, head, policy, now, is_proven)
    except errors.TickcellError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the edge: one request's fault is its own.
        return refusal(request.key, error)


def _decide_step(
    request: StepRequest, head: Head, policy: Policy, now: Moment, is_proven: bool
) -> Begun | Stepped:
    """Tells whether the steps are stored, or are to be computed and how."""
    session = request.key.session
    found = lives.live(head.record, session, now.store_ns, policy.retention_ns)
    first_step, stored, histories = rules.decide(found, request, policy.catalogue.name_sensor)
    if stored == request.step_count:
        outputs = rules.stored_outputs(found, first_step, stored)
        last = found.history_before(first_step + stored)
        return Stepped(found.life, first_step, outputs, last, stored)
    model = policy.catalogue.pinned_to(found, session)
    if model.numerics != found.numerics:
        if policy.is_strict:
            raise rules.numerics_changed(found, model.numerics, session)
        _log.warning(
            "%s: continues from step %d under other numerics (%s, was %s)",
            session,
            found.next_step,
            model.numerics.hex(),
            found.numerics.hex(),
        )
    rules.check_ranges(found, request, stored, model)
    return Begun(request, head.encoded, found, is_proven, now, model, first_step, stored, histories)


def _decide_preview(request: PreviewRequest, head: Head, policy: Policy, now: Moment) -> Begun:
    """Tells how a preview is to be computed."""
    session = request.session
    found = lives.live(head.record, session, now.store_ns, policy.retention_ns)
    preview.check(found, request, policy.limits)
    model = policy.catalogue.pinned_to(found, session)
    if model.numerics != found.numerics and policy.is_strict:
        raise rules.numerics_changed(found, model.numerics, session)
    preview.check_readings(found, request, model)
    wide, steps = preview.side_by_side(found, request)
    return Begun(steps, head.encoded, wide, True, now, model, found.next_step, 0, b"", request)


def _decide_life(
    request: LifeRequest, head: Head, policy: Policy, now: Moment, is_proven: bool
) -> Computed | Record | None:
    """Makes the session's next record, if it is another."""
    key, old = request.key, head.record
    new = request.change(old, policy, now)
    if new is old:
        return new
    encoded = None if new is None else record.encode(key, new)
    pin = lives.new_pin(old, new)
    change = Change(key, head.encoded, encoded, lives.is_live(old), lives.is_live(new), pin)
    return Computed(change, is_proven, new, new)


def _compute_each(
    steps: Sequence[Begun], failed: Exception
) -> Generator[CellCall, Any, list[Computed | Previewed | errors.TickcellError]]:
    """Steps the cells for each alone, after they failed together."""
    if len(steps) == 1:
        return [refusal(steps[0].key, failed)]
    # One of them did it. Nothing was handed to the store yet: alone, each fails or
    # succeeds by itself.
    _log.warning("%d steps failed together; running each alone: %r", len(steps), failed)
    outcomes: list[Computed | Previewed | errors.TickcellError] = []
    for step in steps:
        try:
            (result,) = yield from computing.compute([step])
            outcomes.append(_advance(step, result))
        except Exception as error:  # noqa: BLE001 - the edge: answered.
            outcomes.append(refusal(step.key, error))
    return outcomes


def _advance(begun: Begun, result: Result) -> Computed | Previewed | errors.OutputNotFinite:
    """Makes the record that follows, and the answer that holds once it is committed."""
    request, encoded, found, is_proven, now, model, first_step, stored, histories, asked = begun
    new_outputs, state, is_finite = result
    # A state that is not finite would make every later output so, and is no state
    # from which a session could go on.
    if not is_finite:
        return rules.output_not_finite(found, request.key.session)
    if asked is not None:
        return Previewed(found.life.generation, preview.by_branch(asked, new_outputs))
    new = record.advance(
        found,
        state=state,
        histories=histories,
        outputs=new_outputs,
        numerics=model.numerics,
        now=now,
    )
    outputs = new_outputs
    if stored:
        outputs = rules.stored_outputs(found, first_step, stored) + new_outputs
    return Computed(
        Change(request.key, encoded, record.encode(request.key, new)),
        is_proven,
        new,
        Stepped(found.life, first_step, outputs, histories[-history.SIZE :], stored),
    )


def _load(keys: list[Key]) -> Generator[Load, Any, list[bytes | Exception | None]]:
    """Loads records, each alone if they cannot be loaded together."""
    try:
        loaded: list[bytes | Exception | None] = yield Load(keys)
        return loaded
    except Exception as error:  # noqa: BLE001 - the edge: answered to those whom it concerns.
        if len(keys) == 1:
            return [error]
    loaded = []
    for key in keys:
        loaded += yield from _load([key])
    return loaded


def refusal(key: Key, why: Verdict | Exception) -> errors.TickcellError:
    """Returns the answer to a request that failed."""
    session = key.session
    match why:
        case errors.TickcellError():
            return why
        case Full(reason):
            return errors.store_full(session, reason)
        case Contended():
            return errors.store_busy(session, STORE_WAIT_S)
        case Unknown(reason):
            return errors.outcome_unknown(session, reason)
        case StoreDamagedError():
            return errors.store_damaged(session, why)
        case StoreError():
            return errors.store_away(session, why)
        case Exception():
            # What no rule foresees: a fault of ours must not end the loop that serves everybody.
            _log.error("%s: a request failed", session, exc_info=why)
            return errors.internal(session, session=session)
    raise AssertionError(f"not a refusal: {why}")
