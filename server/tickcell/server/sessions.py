"""The lives of sessions: create, get, list, touch, reset, delete, and the sweep.

Each change is a record loaded, a rule applied and a compare-and-put; who loses
to another server loads again.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors, lives, record, records, store, turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tickcell.server.catalogue import Catalogue, ServedModel
    from tickcell.server.clock import Clock
    from tickcell.server.record import Record
    from tickcell.server.records import Records

_log = logging.getLogger(__name__)

# Records looked at in one piece: about a millisecond.
SCAN_LIMIT = 256


class Creation(NamedTuple):
    """What a caller wants of a new session."""

    session: str
    request_id: str
    series_count: int
    window: int
    idle_ttl_ns: int
    labels: dict[str, str]


class Sessions:
    """All sessions of one store."""

    def __init__(
        self,
        records: Records,
        catalogue: Catalogue,
        clock: Clock,
        *,
        retention_ns: int,
        max_sessions: int,
        max_record_bytes: int,
    ) -> None:
        self._records = records
        self._catalogue = catalogue
        self._clock = clock
        self._retention_ns = retention_ns
        self._max_sessions = max_sessions
        self._max_record_bytes = max_record_bytes
        self._swept: store.Key | None = None

    def create(self, model: ServedModel, wanted: Creation) -> Record:
        """Creates a session, or returns the one that the same request created.

        Raises:
          SessionExists, SessionDeleted, SessionExpired: see `lives.create`.
          ArgumentInvalid: its series and window together are too many.
          SessionsFull: the store keeps as many as it may.
          StoreFull: its disk or map is full.
        """
        request = lives.CreateRequest(
            session=wanted.session,
            request_id=wanted.request_id,
            generation=_generation(),
            model=model.card.name,
            model_version=model.card.version,
            fingerprint=model.fingerprint,
            numerics=model.numerics,
            series_count=wanted.series_count,
            window=wanted.window,
            sensor_count=model.cell.interface.sensor_count,
            output_count=model.cell.interface.output_count,
            state=model.cell.initial_state(wanted.series_count).tobytes(),
            idle_ttl_ns=wanted.idle_ttl_ns,
            labels=wanted.labels,
        )

        def create(old: Record | None) -> Record:
            new = lives.create(old, request, self._clock.now_ns(), self._retention_ns)
            if new is not old:
                self._check_size(wanted.session, new)
            if old is None:
                self._check_room(wanted.session)
            return new

        return self._change(wanted.session, create)

    def get(self, session: str) -> Record:
        """Returns a live session's record.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          RecordDamaged: its record is not as it was written; so for all that follow.
        """
        return self._live(session, self._load(session)[1])

    def list(self, after: str, limit: int) -> tuple[list[tuple[str, Record]], str]:
        """Returns some live sessions by id, and where to go on; "" at the end.

        Args:
          after: the id behind which to begin.
          limit: how many records to look at; there may be fewer live ones.
        """
        now_ns = self._clock.now_ns()
        found = self._records.scan("", records.key(after) if after else None, limit)
        live = []
        for key, encoded in found:
            try:
                current = record.loaded(key, encoded)
            except errors.RecordDamaged as error:
                # Not known to be alive, and no reason to hide those that are.
                _log.error("%s", error)
                continue
            if not (current.life.is_deleted or lives.is_expired(current, now_ns)):
                live.append((key.session, current))
        return live, found[-1][0].session if len(found) == limit else ""

    def touch(self, session: str, generation: int) -> Record:
        """Renews a session.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionRestarted: another generation is meant.
          StoreFull: the store has no room.
        """
        return self._change(
            session,
            lambda old: lives.touch(
                self._live(session, old), session, generation, self._clock.now_ns()
            ),
        )

    def reset(self, session: str, generation: int, request_id: str) -> Record:
        """Starts a session again from the cell's initial state.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionRestarted: another generation is meant.
          ModelNotServed: its model, which gives the initial state, is not served.
          StoreFull: the store has no room.
        """

        def begin(old: Record) -> tuple[int, bytes, bytes]:
            model = turn.served(self._catalogue.by_fingerprint, old, session)
            state = model.cell.initial_state(old.life.series_count)
            return _generation(), state.tobytes(), model.numerics

        return self._change(
            session,
            lambda old: lives.reset(
                self._live(session, old),
                session,
                generation,
                request_id,
                begin,
                self._clock.now_ns(),
            ),
        )

    def delete(self, session: str, generation: int) -> None:
        """Deletes a session; deleting the same generation again succeeds.

        Raises:
          SessionUnknown, SessionDeleted, SessionExpired: it is not alive.
          SessionRestarted: another generation is meant.
          StoreFull: the store has no room even for this.
        """
        self._change(
            session,
            lambda old: lives.delete(
                old, session, generation, self._clock.now_ns(), self._retention_ns
            ),
        )

    def sweep(self) -> int:
        """Removes forgotten records among the next few, and says how many.

        Raises:
          StoreFull: the store has no room even for this.
        """
        now_ns = self._clock.now_ns()
        found = self._records.scan(None, self._swept, SCAN_LIMIT)
        self._swept = found[-1][0] if len(found) == SCAN_LIMIT else None
        changes = []
        for key, encoded in found:
            try:
                current = record.decode(encoded)
            except errors.RecordDamaged:
                # Not ours to remove: whoever asks for the session is told.
                continue
            if lives.is_forgotten(current, now_ns, self._retention_ns):
                was_live = not current.life.is_deleted
                changes.append(store.Change(key, encoded, None, was_live, is_live=False))
        if not changes:
            return 0
        settled = self._records.commit(changes)
        for each in settled:
            if isinstance(each, errors.TickcellError):
                raise each
        return settled.count(True)

    def _load(self, session: str) -> tuple[bytes | None, Record | None]:
        key = records.key(session)
        (encoded,) = self._records.load([key])
        return encoded, None if encoded is None else record.loaded(key, encoded)

    def _live(self, session: str, old: Record | None) -> Record:
        return lives.live(old, session, self._clock.now_ns(), self._retention_ns)

    def _change(self, session: str, rule: Callable[[Record | None], Record]) -> Record:
        """Exchanges a session's record for the one that the rule makes of it."""
        while True:
            encoded, old = self._load(session)
            new = rule(old)
            if new is old:
                return new
            change = store.Change(
                records.key(session),
                encoded,
                record.encode(new),
                was_live=old is not None and not old.life.is_deleted,
                is_live=not new.life.is_deleted,
            )
            if self._records.exchange(change):
                return new

    def _check_size(self, session: str, new: Record) -> None:
        life = new.life
        if life.full_size > self._max_record_bytes:
            raise errors.ArgumentInvalid(
                f"{session}: {life.series_count} series with a window of {life.window} steps make "
                f"a record of {life.full_size} bytes, expected at most {self._max_record_bytes}; "
                "ask for fewer series or a shorter window, or raise --max-record-bytes.",
                session=session,
                field="series_count",
                series_count=life.series_count,
                window_step_count=life.window,
                record_bytes=life.full_size,
                max_record_bytes=self._max_record_bytes,
            )

    def _check_room(self, session: str) -> None:
        count = self._records.live_count()
        if count >= self._max_sessions:
            raise errors.SessionsFull(
                f"{session}: {count} sessions live of the {self._max_sessions} that may; delete "
                "some, wait, or raise --max-sessions.",
                session=session,
                session_count=count,
                max_session_count=self._max_sessions,
            )


def _generation() -> int:
    """Draws a generation: 53 bits, so that it survives as a JSON number."""
    return 1 + secrets.randbelow(2**53 - 1)
