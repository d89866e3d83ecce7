from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_MALFORMED: _ClassVar[ErrorReason]
    ERROR_REASON_ARGUMENT_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_FRAME_SHAPE: _ClassVar[ErrorReason]
    ERROR_REASON_FRAME_NOT_FINITE: _ClassVar[ErrorReason]
    ERROR_REASON_FRAME_OUT_OF_RANGE: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_EXPIRED: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_DELETED: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_EXISTS: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_RESTARTED: _ClassVar[ErrorReason]
    ERROR_REASON_STEP_STALE: _ClassVar[ErrorReason]
    ERROR_REASON_STEP_GAP: _ClassVar[ErrorReason]
    ERROR_REASON_STEP_CONFLICT: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_NOT_SERVED: _ClassVar[ErrorReason]
    ERROR_REASON_NUMERICS_CHANGED: _ClassVar[ErrorReason]
    ERROR_REASON_OUTPUT_NOT_FINITE: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_FULL: _ClassVar[ErrorReason]
    ERROR_REASON_SESSIONS_FULL: _ClassVar[ErrorReason]
    ERROR_REASON_STREAMS_FULL: _ClassVar[ErrorReason]
    ERROR_REASON_DRAINING: _ClassVar[ErrorReason]
    ERROR_REASON_RECORD_DAMAGED: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_RECORD_NEWER: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_BUSY: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_AWAY: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_DAMAGED: _ClassVar[ErrorReason]
    ERROR_REASON_OUTCOME_UNKNOWN: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_MALFORMED: ErrorReason
ERROR_REASON_ARGUMENT_INVALID: ErrorReason
ERROR_REASON_FRAME_SHAPE: ErrorReason
ERROR_REASON_FRAME_NOT_FINITE: ErrorReason
ERROR_REASON_FRAME_OUT_OF_RANGE: ErrorReason
ERROR_REASON_SESSION_UNKNOWN: ErrorReason
ERROR_REASON_SESSION_EXPIRED: ErrorReason
ERROR_REASON_SESSION_DELETED: ErrorReason
ERROR_REASON_SESSION_EXISTS: ErrorReason
ERROR_REASON_SESSION_RESTARTED: ErrorReason
ERROR_REASON_STEP_STALE: ErrorReason
ERROR_REASON_STEP_GAP: ErrorReason
ERROR_REASON_STEP_CONFLICT: ErrorReason
ERROR_REASON_MODEL_UNKNOWN: ErrorReason
ERROR_REASON_MODEL_NOT_SERVED: ErrorReason
ERROR_REASON_NUMERICS_CHANGED: ErrorReason
ERROR_REASON_OUTPUT_NOT_FINITE: ErrorReason
ERROR_REASON_STORE_FULL: ErrorReason
ERROR_REASON_SESSIONS_FULL: ErrorReason
ERROR_REASON_STREAMS_FULL: ErrorReason
ERROR_REASON_DRAINING: ErrorReason
ERROR_REASON_RECORD_DAMAGED: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_RECORD_NEWER: ErrorReason
ERROR_REASON_STORE_BUSY: ErrorReason
ERROR_REASON_STORE_AWAY: ErrorReason
ERROR_REASON_STORE_DAMAGED: ErrorReason
ERROR_REASON_OUTCOME_UNKNOWN: ErrorReason
