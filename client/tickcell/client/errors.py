"""What the client raises.

    TickcellError
    ├─ RefusedError                 the server refused the request, which changed nothing
    │  ├─ MalformedError, ArgumentInvalidError
    │  ├─ FrameError
    │  │  └─ FrameShapeError, FrameNotFiniteError, FrameOutOfRangeError
    │  ├─ SessionEndedError
    │  │  ├─ SessionUnknownError
    │  │  │  └─ CreateLostError     the store had the session, and no longer has it
    │  │  └─ SessionExpiredError, SessionDeletedError, SessionMovedError
    │  ├─ SessionExistsError
    │  ├─ SessionClaimedError
    │  ├─ SessionRestartedError
    │  │  └─ ResetLostError         the store has the life from before the reset again
    │  ├─ StepStaleError, StepGapError, StepConflictError
    │  ├─ ModelUnknownError, ModelNotServedError, NumericsChangedError, OutputNotFiniteError
    │  ├─ ModelBrokenError, ModelsUncontrolledError
    │  ├─ StoreFullError, SessionsFullError, StreamsFullError, DrainingError
    │  ├─ OwnerSessionsFullError, OwnerRateExceededError
    │  ├─ CallerUnknownError, OperatorsOnlyError
    │  ├─ StoreBusyError, StoreAwayError, StoreDamagedError
    │  ├─ RecordDamagedError, RecordNewerError, InternalError
    │  ├─ ExportNewerError, ExportRefusedError, MigrationRefusedError
    │  └─ OutcomeUnknownError       only here is it unknown whether the request was applied
    ├─ CallError                    gRPC refused the call; the code and its text are gRPC's
    │  └─ LostError                 the call broke off: it is unknown whether it was applied
    ├─ UnavailableError             the same, and `retry_for_s` is over
    ├─ StoreDiffersError            one of several servers keeps another store
    ├─ HistoryDiffersError          steps that were sent again gave other outputs than before
    ├─ BacklogError                 too many frames wait for the server
    ├─ ReplyError                   a reply does not belong to its request
    ├─ AddressError                 the server's address is invalid
    ├─ ExportFileError              a file is not an export of a session, or is damaged
    │  └─ ExportFileNewerError      a newer tickcell wrote it
    ├─ CredentialsError             a certificate, key or token cannot be used
    └─ UsageError                   an invalid call, such as a step of a closed session

Each class below `RefusedError` that has a reason has one of
`proto/tickcell/v1/error_reason.proto`, whose comments say what it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class TickcellError(Exception):
    """Anything that the client raises by itself.

    Attributes:
      may_pass: whether the same request may succeed a little later, so that the client
        retries it automatically.
      elsewhere: whether another server of the same store may answer the same request, so
        that the client tries each of them before it raises this.
    """

    may_pass: bool = False
    elsewhere: bool = False


class RefusedError(TickcellError):
    """The server refused the request, which changed nothing; but see `OutcomeUnknownError`.

    An earlier copy of the same request may have been applied.

    Attributes:
      reason: as in error_reason.proto, without the prefix; one that this client does
        not know yet comes as a plain `RefusedError`.
      metadata: every changing part of the message, by name.
      retry_s: after how long the request may succeed, if known; the client waits that long.
    """

    reason: str = ""
    retry_s: float | None = None

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.metadata = dict(metadata or {})


class MalformedError(RefusedError):
    """The bytes are not the request's message."""

    reason = "MALFORMED"


class ArgumentInvalidError(RefusedError):
    """A field is missing, malformed or out of its range."""

    reason = "ARGUMENT_INVALID"


class FrameError(RefusedError):
    """A frame cannot be applied."""


class FrameShapeError(FrameError):
    """The step count, or the number of readings, does not fit the session."""

    reason = "FRAME_SHAPE"


class FrameNotFiniteError(FrameError):
    """A reading is NaN or infinite."""

    reason = "FRAME_NOT_FINITE"


class FrameOutOfRangeError(FrameError):
    """A reading is outside its sensor's range."""

    reason = "FRAME_OUT_OF_RANGE"


class SessionEndedError(RefusedError):
    """No session of this id is alive."""


class SessionUnknownError(SessionEndedError):
    """No live or ended session of this id is known."""

    reason = "SESSION_UNKNOWN"


class CreateLostError(SessionUnknownError):
    """The store had this session when it was created or attached to, and no longer knows it.

    The store was put back to an earlier backup, unless the session ended so long ago that
    its end is forgotten.
    """


class SessionExpiredError(SessionEndedError):
    """The session was idle for longer than its time to live."""

    reason = "SESSION_EXPIRED"


class SessionDeletedError(SessionEndedError):
    """The session was deleted."""

    reason = "SESSION_DELETED"


class SessionMovedError(SessionEndedError):
    """The session was exported and ended, and continues where it was imported."""

    reason = "SESSION_MOVED"


class SessionExistsError(RefusedError):
    """A live session of this id was created by another request."""

    reason = "SESSION_EXISTS"


class SessionRestartedError(RefusedError):
    """The session was reset, migrated or created anew since the request's generation."""

    reason = "SESSION_RESTARTED"


class SessionClaimedError(RefusedError):
    """Another caller has claimed the session since the request's generation."""

    reason = "SESSION_CLAIMED"


class ResetLostError(SessionRestartedError):
    """The store was put back, and has the life again that this client had ended by a reset."""


class StepStaleError(RefusedError):
    """The step was applied, but its outputs have left the window."""

    reason = "STEP_STALE"


class StepGapError(RefusedError):
    """The steps before this one have not been applied."""

    reason = "STEP_GAP"


class StepConflictError(RefusedError):
    """The step was applied with another frame: two writers, or two recordings."""

    reason = "STEP_CONFLICT"


class ModelUnknownError(RefusedError):
    """No model of this name and version is served."""

    reason = "MODEL_UNKNOWN"
    elsewhere = True


class ModelNotServedError(RefusedError):
    """The model to which the session is pinned is not served here."""

    reason = "MODEL_NOT_SERVED"
    elsewhere = True


class ModelBrokenError(RefusedError):
    """A bundle of the server's repository cannot be served."""

    reason = "MODEL_BROKEN"


class ModelsUncontrolledError(RefusedError):
    """Calls cannot load or unload the server's models."""

    reason = "MODELS_UNCONTROLLED"


class NumericsChangedError(RefusedError):
    """The session was advanced under another numerics digest, and the server is strict."""

    reason = "NUMERICS_CHANGED"
    elsewhere = True


class OutputNotFiniteError(RefusedError):
    """The cell's output or next state is not finite."""

    reason = "OUTPUT_NOT_FINITE"


class StoreFullError(RefusedError):
    """The store's disk or map is full."""

    reason = "STORE_FULL"
    may_pass = True


class SessionsFullError(RefusedError):
    """The limit of live sessions is reached."""

    reason = "SESSIONS_FULL"


class StreamsFullError(RefusedError):
    """The limit of open streams is reached."""

    reason = "STREAMS_FULL"
    may_pass = True
    elsewhere = True


class OwnerSessionsFullError(RefusedError):
    """The owner's limit of live sessions is reached."""

    reason = "OWNER_SESSIONS_FULL"
    may_pass = True


class OwnerRateExceededError(RefusedError):
    """The owner's sessions take more steps per second than its limit."""

    reason = "OWNER_RATE_EXCEEDED"
    may_pass = True


class CallerUnknownError(RefusedError):
    """The server does not admit the caller: it requires a token, or another one.

    If the file of the token has changed, the client tries the new token automatically.
    """

    reason = "CALLER_UNKNOWN"


class OperatorsOnlyError(RefusedError):
    """The call is for operators."""

    reason = "OPERATORS_ONLY"


class DrainingError(RefusedError):
    """The server is stopping."""

    reason = "DRAINING"
    may_pass = True
    elsewhere = True


class RecordDamagedError(RefusedError):
    """The session's record does not match its checksum."""

    reason = "RECORD_DAMAGED"


class RecordNewerError(RefusedError):
    """A newer tickcell wrote the session's record."""

    reason = "RECORD_NEWER"
    elsewhere = True


class ExportNewerError(RefusedError):
    """A newer tickcell wrote the export."""

    reason = "EXPORT_NEWER"
    elsewhere = True


class ExportRefusedError(RefusedError):
    """The export is damaged, of another model, or not signed by the server's key."""

    reason = "EXPORT_REFUSED"


class MigrationRefusedError(RefusedError):
    """The other version of the model has other sensors or another state."""

    reason = "MIGRATION_REFUSED"


class StoreBusyError(RefusedError):
    """Another process had the server's store locked for too long."""

    reason = "STORE_BUSY"
    may_pass = True


class StoreAwayError(RefusedError):
    """The server's store cannot be reached or written."""

    reason = "STORE_AWAY"
    may_pass = True
    elsewhere = True


class StoreDamagedError(RefusedError):
    """The server's store is damaged; an administrator must restore a backup."""

    reason = "STORE_DAMAGED"


class OutcomeUnknownError(RefusedError):
    """The server's store failed during the change, which may have been applied or not.

    The client sends such a request again automatically, which is always right, as after
    a `LostError`.
    """

    reason = "OUTCOME_UNKNOWN"
    may_pass = True
    elsewhere = True


class InternalError(RefusedError):
    """A fault of the server, which its log describes."""

    reason = "INTERNAL"
    may_pass = True
    elsewhere = True


class CallError(TickcellError):
    """gRPC refused the call, for example because its message is too long; nothing was applied.

    Attributes:
      code: the name of gRPC's status code.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class LostError(CallError):
    """The call broke off: it is unknown whether the request was applied.

    The client sends such a request again automatically, which is always right.
    """

    may_pass = True
    elsewhere = True


class UnavailableError(TickcellError):
    """The server did not answer for `retry_for_s`; it is unknown whether the request was applied.

    The session is kept; doing the same step again later is right.
    """


class StoreDiffersError(TickcellError):
    """One of several servers has a different store than the others, and none of their sessions."""

    may_pass = True
    elsewhere = True


class HistoryDiffersError(TickcellError):
    """A store was put back, and steps that were sent again gave other outputs than before.

    Attributes:
      step: the first whose outputs differ.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class BacklogError(TickcellError):
    """Too many frames wait for the server; the last one was not taken."""


class ReplyError(TickcellError):
    """A reply does not belong to its request: a fault of the server, or of what is in between."""


class AddressError(TickcellError, ValueError):
    """The server's address is invalid."""


class ExportFileError(TickcellError, ValueError):
    """A file is not an export of a session, or is damaged."""


class ExportFileNewerError(ExportFileError):
    """A newer tickcell wrote the file."""


class CredentialsError(TickcellError, ValueError):
    """A certificate, a key or a token cannot be used; nothing was sent."""


class UsageError(TickcellError, ValueError):
    """An invalid call, such as a step of a closed session."""


def _leaves(tree: type[RefusedError]) -> Iterator[type[RefusedError]]:
    for child in tree.__subclasses__():
        yield from _leaves(child)
        if "reason" in vars(child):
            yield child


REASONS: dict[str, type[RefusedError]] = {leaf.reason: leaf for leaf in _leaves(RefusedError)}


def refused(reason: str, message: str, metadata: Mapping[str, str]) -> RefusedError:
    """Returns the error of a reason, a plain `RefusedError` if it is not known here."""
    if reason in REASONS:
        return REASONS[reason](message, metadata)
    error = RefusedError(message, metadata)
    error.reason = reason
    return error
