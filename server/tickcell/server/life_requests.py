"""What may be asked of a session's life: create, begin, look, touch, reset, delete, end, bury.

Each is a rule of `lives`, with what that needs from outside drawn beforehand: models,
generations, limits. What becomes of a request is in `rounds`.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import beginnings, errors, lives, rules

if TYPE_CHECKING:
    from tickcell.server.catalogue import ServedModel
    from tickcell.server.clock import Moment
    from tickcell.server.config import Limits
    from tickcell.server.policy import Policy
    from tickcell.server.record import Life, Record
    from tickcell.server.rules import StepRequest
    from tickcell.server.store.contract import Key


class Creation(NamedTuple):
    """What a caller wants of a new session; see `record.Life`."""

    session: str
    request_id: str
    series_count: int
    window: int
    idle_ttl_ns: int
    labels: dict[str, str]


class Create(NamedTuple):
    """Creates a session, or returns the one that the same request created.

    Raises, of a change:
      SessionExists, SessionClaimed, SessionDeleted, SessionExpired: see `beginnings.create`.
      ArgumentInvalid: its series and window together are too many, or a single step would
        not fit into a request or its answer.

    Attributes:
      start: what it begins with; None for the cell's own beginning.
      origin: to what a reset returns, likewise.
    """

    key: Key
    model: ServedModel
    wanted: Creation
    start: beginnings.Start | None = None
    origin: beginnings.Start | None = None

    @property
    def size(self) -> int:
        """The bytes of its initial state."""
        return 4 * self.wanted.series_count * self.model.cell.interface.state_size

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the session's record."""
        request = self.request(policy.limits, draw_generation())
        new = beginnings.create(old, request, now, policy.retention_ns)
        if new is not old:
            check_fits(self.key.session, new.life, policy.limits)
        return new

    def request(self, limits: Limits, generation: int) -> beginnings.CreateRequest:
        """Returns what the record is made of, under these limits."""
        card, interface, wanted = self.model.card, self.model.cell.interface, self.wanted
        return beginnings.CreateRequest(
            session=self.key.session,
            request_id=wanted.request_id,
            generation=generation,
            model=card.name,
            model_version=card.version,
            fingerprint=self.model.fingerprint,
            start=self.start or cells_start(self.model, wanted.series_count),
            series_count=wanted.series_count,
            window=wanted.window,
            max_step_count=lives.max_step_count(
                window=wanted.window,
                series_count=wanted.series_count,
                sensor_count=interface.sensor_count,
                output_count=interface.output_count,
                max_request_rows=limits.max_request_rows,
                max_message_bytes=limits.max_message_bytes,
            ),
            sensor_count=interface.sensor_count,
            output_count=interface.output_count,
            idle_ttl_ns=wanted.idle_ttl_ns,
            labels=wanted.labels,
            origin=self.origin,
        )


class Begin:
    """Begins a life, also where one is alive, which ends thereby; or returns the one that it began.

    Its first steps are checked before, so that a life begins with steps that it takes.

    Raises, of a change:
      SessionDeleted, SessionExpired, SessionClaimed, SessionRestarted: see `beginnings.begin`.
      ArgumentInvalid: see `Create`.
      FrameShape, FrameNotFinite, FrameOutOfRange: the first steps do not fit the model.

    Attributes:
      key: of the session.
      size: the bytes of its initial state.
      made: the record that the last change has made; None while there is none.
      has_replaced: whether that change has ended a life.
    """

    def __init__(self, model: ServedModel, wanted: Creation, first: StepRequest) -> None:
        """Makes the request.

        Args:
          model: which the life is pinned to.
          wanted: what it is made of.
          first: its first steps, under the generation that it is to have.
        """
        self.key = first.key
        self._create = Create(first.key, model, wanted)
        self._first = first
        self.size = self._create.size
        self.made: Record | None = None
        self.has_replaced = False

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record of the life."""
        session, model, first = self.key.session, self._create.model, self._first
        assert first.generation is not None
        request = self._create.request(policy.limits, first.generation)
        new = beginnings.begin(old, request, now, policy.retention_ns)
        if new is not old:
            check_fits(session, new.life, policy.limits)
            rules.decide(new, first, lambda _, sensor: model.cell.interface.sensors[sensor].name)
            rules.check_ranges(new, first, 0, model)
            self.made = new
            self.has_replaced = old is not None and not lives.has_ended(old, now.store_ns)
        return new


class Get(NamedTuple):
    """Shows a live session."""

    key: Key
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record as it is."""
        return lives.live(old, self.key.session, now.store_ns, policy.retention_ns)


class Touch(NamedTuple):
    """Renews a session."""

    key: Key
    generation: int
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the renewed record."""
        session = self.key.session
        found = lives.live(old, session, now.store_ns, policy.retention_ns)
        return lives.touch(found, session, self.generation, now)


class Reset(NamedTuple):
    """Starts a session again from the state with which it was created."""

    key: Key
    generation: int
    request_id: str
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record of the new life."""
        session = self.key.session

        def start(found: Record) -> beginnings.Start:
            model = policy.catalogue.pinned_to(found, session)
            return cells_start(model, found.life.series_count)

        found = lives.live(old, session, now.store_ns, policy.retention_ns)
        new_generation = draw_generation()
        return beginnings.reset(
            found, session, self.generation, self.request_id, new_generation, start, now
        )


class Delete(NamedTuple):
    """Deletes a session; deleting the same generation again succeeds."""

    key: Key
    generation: int
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the session's tombstone."""
        return lives.delete(old, self.key.session, self.generation, now, policy.retention_ns)


class End(NamedTuple):
    """Ends a session and keeps its window; ending the same generation again succeeds."""

    key: Key
    generation: int
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the session's tombstone, with the window."""
        return lives.end(old, self.key.session, self.generation, now, policy.retention_ns)


class Recall(NamedTuple):
    """Shows a session that is alive, or whose end is remembered."""

    key: Key
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record:
        """Returns the record as it is."""
        return lives.remembered(old, self.key.session, now.store_ns, policy.retention_ns)


class Bury(NamedTuple):
    """Makes an expired session a tombstone, and removes the tombstone of a forgotten one.

    Attributes:
      forget_ns: also those are forgotten that ended before, by the store's clock.
    """

    key: Key
    forget_ns: int
    size: int = 0

    def change(self, old: Record | None, policy: Policy, now: Moment) -> Record | None:
        """Returns the tombstone, None for nothing, or the record of a session that is alive."""
        if old is None or not lives.has_ended(old, now.store_ns):
            return old
        ended_ns = lives.end_ns(old)
        assert ended_ns is not None
        if lives.is_forgotten(old, now.store_ns, policy.retention_ns) or ended_ns < self.forget_ns:
            return None
        return lives.expire(old) if lives.is_live(old) else old


def draw_generation() -> int:
    """Draws a generation: 53 bits, so that it survives as a JSON number."""
    return 1 + secrets.randbelow(2**53 - 1)


def cells_start(model: ServedModel, series_count: int) -> beginnings.Start:
    """Returns a cell's own beginning."""
    return beginnings.Start(model.numerics, model.cell.initial_state(series_count).tobytes())


def check_fits(session: str, life: Life, limits: Limits) -> None:
    """Raises ArgumentInvalid unless a new session is within the server's limits."""
    _check_size(session, life, limits)
    _check_step(session, life, limits)


def _check_size(session: str, life: Life, limits: Limits) -> None:
    most = limits.max_record_bytes
    if life.full_size > most:
        raise errors.ArgumentInvalid(
            f"{session}: {life.series_count} series with a window of {life.window} steps make a "
            f"record of {life.full_size} bytes, expected at most {most}; ask for fewer series or a "
            "shorter window, or raise --max-record-bytes.",
            session=session,
            field="series_count",
            series_count=life.series_count,
            window_step_count=life.window,
            record_bytes=life.full_size,
            max_record_bytes=most,
        )


def _check_step(session: str, life: Life, limits: Limits) -> None:
    if life.max_step_count < 1:
        raise errors.ArgumentInvalid(
            f"{session}: a single step of {life.series_count} series, with {life.sensor_count} "
            f"sensors and {life.output_count} outputs each, does not fit into a request of "
            f"{limits.max_request_rows} rows and messages of {limits.max_message_bytes} bytes; "
            "ask for fewer series, or raise --max-request-rows and --max-message-bytes.",
            session=session,
            field="series_count",
            series_count=life.series_count,
            sensor_count=life.sensor_count,
            output_count=life.output_count,
            max_request_rows=limits.max_request_rows,
            max_message_bytes=limits.max_message_bytes,
        )
