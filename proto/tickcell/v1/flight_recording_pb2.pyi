from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FlightEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FLIGHT_EVENT_KIND_UNSPECIFIED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_FOUND: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_CREATED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_IMPORTED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_FORKED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_RESET: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_CLAIMED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_MIGRATED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_DELETED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_EXPIRED: _ClassVar[FlightEventKind]
    FLIGHT_EVENT_KIND_MOVED: _ClassVar[FlightEventKind]
FLIGHT_EVENT_KIND_UNSPECIFIED: FlightEventKind
FLIGHT_EVENT_KIND_FOUND: FlightEventKind
FLIGHT_EVENT_KIND_CREATED: FlightEventKind
FLIGHT_EVENT_KIND_IMPORTED: FlightEventKind
FLIGHT_EVENT_KIND_FORKED: FlightEventKind
FLIGHT_EVENT_KIND_RESET: FlightEventKind
FLIGHT_EVENT_KIND_CLAIMED: FlightEventKind
FLIGHT_EVENT_KIND_MIGRATED: FlightEventKind
FLIGHT_EVENT_KIND_DELETED: FlightEventKind
FLIGHT_EVENT_KIND_EXPIRED: FlightEventKind
FLIGHT_EVENT_KIND_MOVED: FlightEventKind

class FlightSteps(_message.Message):
    __slots__ = ("generation", "first_step", "step_count", "frames", "outputs", "history", "resets")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    RESETS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    first_step: int
    step_count: int
    frames: _containers.RepeatedScalarFieldContainer[float]
    outputs: _containers.RepeatedScalarFieldContainer[float]
    history: bytes
    resets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, generation: _Optional[int] = ..., first_step: _Optional[int] = ..., step_count: _Optional[int] = ..., frames: _Optional[_Iterable[float]] = ..., outputs: _Optional[_Iterable[float]] = ..., history: _Optional[bytes] = ..., resets: _Optional[_Iterable[int]] = ...) -> None: ...

class FlightEvent(_message.Message):
    __slots__ = ("kind", "generation", "next_step", "history", "previous_generation", "previous_next_step", "model", "model_version", "model_fingerprint", "numerics_digest", "series_count", "state_values", "origin_values", "source_session", "dropped_step_count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SERIES_COUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_VALUES_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_VALUES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SESSION_FIELD_NUMBER: _ClassVar[int]
    DROPPED_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: FlightEventKind
    generation: int
    next_step: int
    history: bytes
    previous_generation: int
    previous_next_step: int
    model: str
    model_version: str
    model_fingerprint: str
    numerics_digest: str
    series_count: int
    state_values: _containers.RepeatedScalarFieldContainer[float]
    origin_values: _containers.RepeatedScalarFieldContainer[float]
    source_session: str
    dropped_step_count: int
    def __init__(self, kind: _Optional[_Union[FlightEventKind, str]] = ..., generation: _Optional[int] = ..., next_step: _Optional[int] = ..., history: _Optional[bytes] = ..., previous_generation: _Optional[int] = ..., previous_next_step: _Optional[int] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., numerics_digest: _Optional[str] = ..., series_count: _Optional[int] = ..., state_values: _Optional[_Iterable[float]] = ..., origin_values: _Optional[_Iterable[float]] = ..., source_session: _Optional[str] = ..., dropped_step_count: _Optional[int] = ...) -> None: ...
