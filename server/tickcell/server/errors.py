"""The errors that answer a request, and the one table of reasons.

    TickcellError
    ├─ Malformed, ArgumentInvalid                              INVALID_ARGUMENT
    ├─ FrameShape, FrameNotFinite, FrameOutOfRange             INVALID_ARGUMENT
    ├─ SessionUnknown, SessionExpired                          NOT_FOUND
    ├─ SessionDeleted, SessionMoved                            NOT_FOUND
    ├─ ModelUnknown                                            NOT_FOUND
    ├─ SessionExists                                           ALREADY_EXISTS
    ├─ SessionRestarted, SessionClaimed, StepConflict          ABORTED
    ├─ StepStale, StepGap                                      OUT_OF_RANGE
    ├─ ModelNotServed, NumericsChanged, OutputNotFinite        FAILED_PRECONDITION
    ├─ ModelBroken, ModelsUncontrolled                         FAILED_PRECONDITION
    ├─ RecordNewer, ExportNewer, ExportRefused                 FAILED_PRECONDITION
    ├─ MigrationRefused                                        FAILED_PRECONDITION
    ├─ StoreFull, SessionsFull, StreamsFull                    RESOURCE_EXHAUSTED
    ├─ OwnerSessionsFull, OwnerRateExceeded                    RESOURCE_EXHAUSTED
    ├─ CallerUnknown                                           UNAUTHENTICATED
    ├─ OperatorsOnly                                           PERMISSION_DENIED
    ├─ Draining, StoreBusy, StoreAway, OutcomeUnknown          UNAVAILABLE
    ├─ RecordDamaged, StoreDamaged                             DATA_LOSS
    └─ Internal                                                INTERNAL

Each leaf has one gRPC status code and one reason of
`proto/tickcell/v1/error_reason.proto`, whose comments state its meaning and
whether sending again helps. Nothing here uses gRPC: the servicer maps names.
"""

from __future__ import annotations

from typing import ClassVar

# A failover takes some seconds; a retry each second continues as soon as it is over.
_AWAY_RETRY_S = 1.0


class TickcellError(Exception):
    """A request was refused, and changed nothing; only for `OutcomeUnknown` is that unknown.

    Attributes:
      metadata: every changing part of the message, by name.
      retry_s: after how long the same request may succeed; None if unknown.
    """

    code: ClassVar[str]
    reason: ClassVar[str]

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.retry_s: float | None = None
        self.metadata = {name: str(value) for name, value in metadata.items()}


class Malformed(TickcellError):
    """The bytes are not the request's message."""

    code = "INVALID_ARGUMENT"
    reason = "MALFORMED"


class ArgumentInvalid(TickcellError):
    """A field is missing, malformed or out of its range."""

    code = "INVALID_ARGUMENT"
    reason = "ARGUMENT_INVALID"


class FrameShape(TickcellError):
    """The step count, or the number of readings, does not fit the session."""

    code = "INVALID_ARGUMENT"
    reason = "FRAME_SHAPE"


class FrameNotFinite(TickcellError):
    """A reading is NaN or infinite."""

    code = "INVALID_ARGUMENT"
    reason = "FRAME_NOT_FINITE"


class FrameOutOfRange(TickcellError):
    """A reading is outside its sensor's range, or is not whole where it must be."""

    code = "INVALID_ARGUMENT"
    reason = "FRAME_OUT_OF_RANGE"


class SessionUnknown(TickcellError):
    """No live or ended session of this id is known."""

    code = "NOT_FOUND"
    reason = "SESSION_UNKNOWN"


class SessionExpired(TickcellError):
    """The session was idle for longer than its time to live."""

    code = "NOT_FOUND"
    reason = "SESSION_EXPIRED"


class SessionDeleted(TickcellError):
    """The session was deleted."""

    code = "NOT_FOUND"
    reason = "SESSION_DELETED"


class SessionMoved(TickcellError):
    """The session was exported and ended, to continue elsewhere."""

    code = "NOT_FOUND"
    reason = "SESSION_MOVED"


class SessionExists(TickcellError):
    """A live session of this id was created by another request."""

    code = "ALREADY_EXISTS"
    reason = "SESSION_EXISTS"


class SessionRestarted(TickcellError):
    """The session was reset or created anew since the request's generation."""

    code = "ABORTED"
    reason = "SESSION_RESTARTED"


class SessionClaimed(TickcellError):
    """Another caller has claimed the session since the request's generation."""

    code = "ABORTED"
    reason = "SESSION_CLAIMED"


class StepStale(TickcellError):
    """The step was applied, but its outputs have left the window."""

    code = "OUT_OF_RANGE"
    reason = "STEP_STALE"


class StepGap(TickcellError):
    """The steps before this one have not been applied."""

    code = "OUT_OF_RANGE"
    reason = "STEP_GAP"


class StepConflict(TickcellError):
    """The step, or one before it, was applied with another frame."""

    code = "ABORTED"
    reason = "STEP_CONFLICT"


class ModelUnknown(TickcellError):
    """No model of this name and version is served."""

    code = "NOT_FOUND"
    reason = "MODEL_UNKNOWN"


class ModelNotServed(TickcellError):
    """The model to which the session is pinned is not served here."""

    code = "FAILED_PRECONDITION"
    reason = "MODEL_NOT_SERVED"


class ModelBroken(TickcellError):
    """A bundle of the repository cannot be served."""

    code = "FAILED_PRECONDITION"
    reason = "MODEL_BROKEN"


class ModelsUncontrolled(TickcellError):
    """Calls cannot load or unload the server's models."""

    code = "FAILED_PRECONDITION"
    reason = "MODELS_UNCONTROLLED"


class NumericsChanged(TickcellError):
    """The session was advanced under another numerics digest, and the server is strict."""

    code = "FAILED_PRECONDITION"
    reason = "NUMERICS_CHANGED"


class OutputNotFinite(TickcellError):
    """The cell's output or next state is not finite."""

    code = "FAILED_PRECONDITION"
    reason = "OUTPUT_NOT_FINITE"


class StoreFull(TickcellError):
    """The store's disk or map is full."""

    code = "RESOURCE_EXHAUSTED"
    reason = "STORE_FULL"


class SessionsFull(TickcellError):
    """The limit of live sessions is reached."""

    code = "RESOURCE_EXHAUSTED"
    reason = "SESSIONS_FULL"


class StreamsFull(TickcellError):
    """The limit of open streams is reached."""

    code = "RESOURCE_EXHAUSTED"
    reason = "STREAMS_FULL"


class OwnerSessionsFull(TickcellError):
    """The owner's limit of live sessions is reached."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OWNER_SESSIONS_FULL"


class OwnerRateExceeded(TickcellError):
    """The owner's sessions take more steps per second than its limit."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OWNER_RATE_EXCEEDED"


class CallerUnknown(TickcellError):
    """The server does not admit the caller."""

    code = "UNAUTHENTICATED"
    reason = "CALLER_UNKNOWN"


class OperatorsOnly(TickcellError):
    """The call is for operators."""

    code = "PERMISSION_DENIED"
    reason = "OPERATORS_ONLY"


class Draining(TickcellError):
    """The server is stopping."""

    code = "UNAVAILABLE"
    reason = "DRAINING"


class RecordDamaged(TickcellError):
    """A session's record does not match its checksum."""

    code = "DATA_LOSS"
    reason = "RECORD_DAMAGED"


class RecordNewer(TickcellError):
    """A newer tickcell wrote the session's record."""

    code = "FAILED_PRECONDITION"
    reason = "RECORD_NEWER"


class ExportNewer(TickcellError):
    """A newer tickcell wrote the export."""

    code = "FAILED_PRECONDITION"
    reason = "EXPORT_NEWER"


class ExportRefused(TickcellError):
    """The export is damaged, of another model, or not signed by the server's key."""

    code = "FAILED_PRECONDITION"
    reason = "EXPORT_REFUSED"


class MigrationRefused(TickcellError):
    """The other version of the model has other sensors or another state."""

    code = "FAILED_PRECONDITION"
    reason = "MIGRATION_REFUSED"


class StoreBusy(TickcellError):
    """Another process had the store locked for as long as a request may wait."""

    code = "UNAVAILABLE"
    reason = "STORE_BUSY"


class StoreAway(TickcellError):
    """The store cannot be reached or written."""

    code = "UNAVAILABLE"
    reason = "STORE_AWAY"


class StoreDamaged(TickcellError):
    """The store is damaged."""

    code = "DATA_LOSS"
    reason = "STORE_DAMAGED"


class OutcomeUnknown(TickcellError):
    """The store failed during the change, so it is unknown whether that was applied."""

    code = "UNAVAILABLE"
    reason = "OUTCOME_UNKNOWN"


class Internal(TickcellError):
    """A fault of the server, which its log describes."""

    code = "INTERNAL"
    reason = "INTERNAL"


REASONS: dict[str, type[TickcellError]] = {
    error.reason: error for error in TickcellError.__subclasses__()
}


def caller_unknown(problem: str) -> CallerUnknown:
    """Returns the answer to a call whose caller is unknown.

    Args:
      problem: what is wrong with its credentials, and the way out.
    """
    return CallerUnknown(f"the caller is not known: {problem}", problem=problem)


def model_broken(model: str, version: str, problem: str) -> ModelBroken:
    """Returns the answer to a request for a model whose bundle is broken.

    Args:
      model: its name.
      version: its version.
      problem: what is wrong with it, as a sentence.
    """
    return ModelBroken(
        f"{model} {version} is not loaded: {problem}",
        model=model,
        model_version=version,
        problem=problem,
    )


def store_full(session: str, why: str) -> StoreFull:
    """Returns the answer to a request that the store has no room for."""
    return StoreFull(f"{session}: nothing was applied: {why}", session=session, store=why)


def store_busy(session: str, waited_s: float) -> StoreBusy:
    """Returns the answer to a request that waited for a locked store for too long."""
    return StoreBusy(
        f"{session}: nothing was applied: the store has been locked for {waited_s:g} s, by another "
        "process or for a slow disk; send it again.",
        session=session,
        waited_s=waited_s,
    )


def store_away(session: str, why: object) -> StoreAway:
    """Returns the answer to a request for which the store could not be reached or written."""
    error = StoreAway(
        f"{session}: nothing was applied: {why}",
        session=session,
        store=why,
        retry_s=f"{_AWAY_RETRY_S:g}",
    )
    error.retry_s = _AWAY_RETRY_S
    return error


def store_damaged(session: str, why: object) -> StoreDamaged:
    """Returns the answer to a request that met a damaged store."""
    return StoreDamaged(f"{session}: nothing was applied: {why}", session=session, store=why)


def outcome_unknown(session: str, why: object) -> OutcomeUnknown:
    """Returns the answer to a request during whose change the store failed."""
    return OutcomeUnknown(
        f"{session}: it is unknown whether the request was applied: {why}; send it again to "
        "find out.",
        session=session,
        store=why,
    )


def internal(subject: str, **metadata: str) -> Internal:
    """Returns the answer to a request on which the server failed before its commit."""
    return Internal(
        f"{subject}: the server failed on this request, and its log says why; nothing was applied, "
        "and sending it again is safe.",
        **metadata,
    )
