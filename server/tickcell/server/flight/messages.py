"""What is written of a session, and the messages that say it.

Vectors go in as the bytes that they are, by twins of the public messages: see `tickcell.wire`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tickcell import wire
from tickcell.server import record
from tickcell.server.life_requests import Begin, Bury, Create, Delete, End, Reset
from tickcell.server.migration import Migrate
from tickcell.server.state_requests import Claim, CreateFrom, Move
from tickcell.v1 import flight_recording_pb2 as pb
from tickcell.wire import history

if TYPE_CHECKING:
    from tickcell.server.computing import Begun
    from tickcell.server.record import Life, Record
    from tickcell.server.rounds import Computed, Request
    from tickcell.server.store.contract import Key

FlightSteps, FlightEvent = wire.twins(pb.FlightSteps, pb.FlightEvent)

# The kinds of events after which a session is no more.
ENDS = {pb.FLIGHT_EVENT_KIND_DELETED, pb.FLIGHT_EVENT_KIND_EXPIRED, pb.FLIGHT_EVENT_KIND_MOVED}


class Position(NamedTuple):
    """Where a session stands: where two are the same, so is the state.

    Attributes:
      generation: the session's.
      next_step: the step that is expected next.
      history: before that step.
      numerics: under which the state was computed.
    """

    generation: int
    next_step: int
    history: bytes
    numerics: bytes

    @classmethod
    def of(cls, found: Record) -> Position:
        """Returns where a session's record stands."""
        step = found.next_step
        return cls(found.life.generation, step, found.history_before(step), found.numerics)


class Applied(NamedTuple):
    """Steps that were applied.

    Attributes:
      begun: what was asked, and the record that was found.
      outputs: of the request's steps, new and stored.
    """

    begun: Begun
    outputs: bytes

    @property
    def key(self) -> Key:
        """The session's."""
        return self.begun.request.key

    @property
    def step_count(self) -> int:
        """How many steps are new."""
        return self.begun.new_count

    @property
    def size(self) -> int:
        """The bytes that it keeps in memory."""
        return len(self.begun.encoded or b"") + len(self.begun.request.frames) + len(self.outputs)

    @property
    def wall_ns(self) -> int:
        """When, in nanoseconds since 1970."""
        return self.begun.now.wall_ns

    @property
    def position(self) -> Position:
        """Where the session stands after them."""
        begun = self.begun
        found = begun.record
        return Position(
            found.life.generation,
            found.next_step + begun.new_count,
            begun.histories[-history.SIZE :],
            begun.model.numerics,
        )

    def message(self) -> bytes:
        """Returns the FlightSteps that says it."""
        begun = self.begun
        life, stored = begun.record.life, begun.stored
        first_row = stored * life.series_count
        resets = [index - first_row for index in begun.request.resets if index >= first_row]
        said: bytes = FlightSteps(
            generation=life.generation,
            first_step=begun.record.next_step,
            step_count=begun.new_count,
            frames=begun.request.frames[stored * life.frame_size :],
            outputs=self.outputs[stored * life.output_size :],
            resets=resets,
            history=begun.histories[-history.SIZE :],
        ).SerializeToString()
        return said


class Changed(NamedTuple):
    """A life that something other than a step has changed.

    Attributes:
      key: the session's.
      kind: what has.
      before: the record's bytes before; None for none.
      record: the one after.
      wall_ns: when, in nanoseconds since 1970.
      burnt_in_session: whose state it took; "" for none.
    """

    key: Key
    kind: int
    before: bytes | None
    record: Record
    wall_ns: int
    burnt_in_session: str = ""

    @property
    def step_count(self) -> int:
        """How many steps are new."""
        return 0

    @property
    def size(self) -> int:
        """The bytes that it keeps in memory."""
        return len(self.before or b"") + len(self.record.state) + len(self.record.outputs)

    @property
    def has_ended(self) -> bool:
        """Whether the session is no more."""
        return self.kind in ENDS

    def message(self, dropped_step_count: int) -> bytes:
        """Returns the FlightEvent that says it."""
        previous = None if self.before is None else record.decode(self.key, self.before)
        said = _event(self.kind, self.record, dropped_step_count)
        if self.has_ended:
            said.ClearField("state_values")
            said.ClearField("origin_values")
        elif previous is not None and not previous.life.is_over:
            said.previous_generation = previous.life.generation
            said.previous_next_step = previous.next_step
        said.source_session = self.burnt_in_session
        encoded: bytes = said.SerializeToString()
        return encoded


def changed(request: Request, computed: Computed, wall_ns: int) -> Changed | None:
    """Returns what is written of a change of a life; None for nothing, as where it is renewed."""
    why = kind(request)
    if why is None or computed.record is None:
        return None
    burnt_in = request.burnt_in_session if isinstance(request, Migrate) else ""
    change = computed.change
    return Changed(change.key, why, change.expected, computed.record, wall_ns, burnt_in)


def found(record: Record, dropped_step_count: int) -> bytes:
    """Returns the FlightEvent of a session that cannot be followed on from what was written."""
    said: bytes = _event(pb.FLIGHT_EVENT_KIND_FOUND, record, dropped_step_count).SerializeToString()
    return said


def kind(request: Request) -> int | None:
    """Returns the FlightEventKind of a request for a life; None of one that leaves no trace."""
    match request:
        case Create(start=start):
            is_copy = start is not None
            return pb.FLIGHT_EVENT_KIND_IMPORTED if is_copy else pb.FLIGHT_EVENT_KIND_CREATED
        case Begin():
            return pb.FLIGHT_EVENT_KIND_CREATED
        case CreateFrom():
            return pb.FLIGHT_EVENT_KIND_FORKED
        case Reset():
            return pb.FLIGHT_EVENT_KIND_RESET
        case Claim():
            return pb.FLIGHT_EVENT_KIND_CLAIMED
        case Migrate():
            return pb.FLIGHT_EVENT_KIND_MIGRATED
        case Delete() | End():
            return pb.FLIGHT_EVENT_KIND_DELETED
        case Bury():
            return pb.FLIGHT_EVENT_KIND_EXPIRED
        case Move():
            return pb.FLIGHT_EVENT_KIND_MOVED
    return None


def _event(kind: int, found: Record, dropped_step_count: int) -> pb.FlightEvent:
    life: Life = found.life
    said: pb.FlightEvent = FlightEvent(
        kind=kind,
        generation=life.generation,
        next_step=found.next_step,
        history=found.history_before(found.next_step),
        model=life.model,
        model_version=life.model_version,
        model_fingerprint=life.fingerprint,
        numerics_digest=found.numerics.hex(),
        series_count=life.series_count,
        state_values=found.state,
        origin_values=found.origin,
        dropped_step_count=dropped_step_count,
    )
    return said
