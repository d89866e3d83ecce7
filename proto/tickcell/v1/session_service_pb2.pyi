import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATE_UNSPECIFIED: _ClassVar[SessionState]
    SESSION_STATE_ACTIVE: _ClassVar[SessionState]
SESSION_STATE_UNSPECIFIED: SessionState
SESSION_STATE_ACTIVE: SessionState

class Session(_message.Message):
    __slots__ = ("id", "generation", "next_step", "state", "model", "model_version", "model_fingerprint", "numerics_digest", "numerics_start_step", "series_count", "window_step_count", "sensor_count", "output_count", "idle_ttl_duration", "expire_time", "create_time", "renew_time", "labels", "max_step_count", "history", "store_id", "owner", "origin_step")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_START_STEP_FIELD_NUMBER: _ClassVar[int]
    SERIES_COUNT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    SENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    IDLE_TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    RENEW_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_STEP_FIELD_NUMBER: _ClassVar[int]
    id: str
    generation: int
    next_step: int
    state: SessionState
    model: str
    model_version: str
    model_fingerprint: str
    numerics_digest: str
    numerics_start_step: int
    series_count: int
    window_step_count: int
    sensor_count: int
    output_count: int
    idle_ttl_duration: _duration_pb2.Duration
    expire_time: _timestamp_pb2.Timestamp
    create_time: _timestamp_pb2.Timestamp
    renew_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    max_step_count: int
    history: bytes
    store_id: str
    owner: str
    origin_step: int
    def __init__(self, id: _Optional[str] = ..., generation: _Optional[int] = ..., next_step: _Optional[int] = ..., state: _Optional[_Union[SessionState, str]] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., numerics_digest: _Optional[str] = ..., numerics_start_step: _Optional[int] = ..., series_count: _Optional[int] = ..., window_step_count: _Optional[int] = ..., sensor_count: _Optional[int] = ..., output_count: _Optional[int] = ..., idle_ttl_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., renew_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., max_step_count: _Optional[int] = ..., history: _Optional[bytes] = ..., store_id: _Optional[str] = ..., owner: _Optional[str] = ..., origin_step: _Optional[int] = ...) -> None: ...

class StateTensor(_message.Message):
    __slots__ = ("name", "dimensions", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    dimensions: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., dimensions: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class SessionExport(_message.Message):
    __slots__ = ("format_version", "content", "signature")
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    content: bytes
    signature: bytes
    def __init__(self, format_version: _Optional[int] = ..., content: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SessionContent(_message.Message):
    __slots__ = ("session", "generation", "model", "model_version", "model_fingerprint", "numerics_digest", "series_count", "window_step_count", "step", "history", "state_tensors", "origin", "window", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SERIES_COUNT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    STATE_TENSORS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    model: str
    model_version: str
    model_fingerprint: str
    numerics_digest: str
    series_count: int
    window_step_count: int
    step: int
    history: bytes
    state_tensors: _containers.RepeatedCompositeFieldContainer[StateTensor]
    origin: SessionOrigin
    window: SessionWindow
    labels: _containers.ScalarMap[str, str]
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., numerics_digest: _Optional[str] = ..., series_count: _Optional[int] = ..., window_step_count: _Optional[int] = ..., step: _Optional[int] = ..., history: _Optional[bytes] = ..., state_tensors: _Optional[_Iterable[_Union[StateTensor, _Mapping]]] = ..., origin: _Optional[_Union[SessionOrigin, _Mapping]] = ..., window: _Optional[_Union[SessionWindow, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SessionOrigin(_message.Message):
    __slots__ = ("step", "history", "numerics_digest", "state_tensors")
    STEP_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_TENSORS_FIELD_NUMBER: _ClassVar[int]
    step: int
    history: bytes
    numerics_digest: str
    state_tensors: _containers.RepeatedCompositeFieldContainer[StateTensor]
    def __init__(self, step: _Optional[int] = ..., history: _Optional[bytes] = ..., numerics_digest: _Optional[str] = ..., state_tensors: _Optional[_Iterable[_Union[StateTensor, _Mapping]]] = ...) -> None: ...

class SessionWindow(_message.Message):
    __slots__ = ("history_chain", "outputs")
    HISTORY_CHAIN_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    history_chain: bytes
    outputs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, history_chain: _Optional[bytes] = ..., outputs: _Optional[_Iterable[float]] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("session", "request_id", "model", "model_version", "series_count", "window_step_count", "idle_ttl_duration", "never_expires", "labels", "export", "initial_state_tensors")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERIES_COUNT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    IDLE_TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    NEVER_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    INITIAL_STATE_TENSORS_FIELD_NUMBER: _ClassVar[int]
    session: str
    request_id: str
    model: str
    model_version: str
    series_count: int
    window_step_count: int
    idle_ttl_duration: _duration_pb2.Duration
    never_expires: bool
    labels: _containers.ScalarMap[str, str]
    export: SessionExport
    initial_state_tensors: _containers.RepeatedCompositeFieldContainer[StateTensor]
    def __init__(self, session: _Optional[str] = ..., request_id: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., series_count: _Optional[int] = ..., window_step_count: _Optional[int] = ..., idle_ttl_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., never_expires: _Optional[bool] = ..., labels: _Optional[_Mapping[str, str]] = ..., export: _Optional[_Union[SessionExport, _Mapping]] = ..., initial_state_tensors: _Optional[_Iterable[_Union[StateTensor, _Mapping]]] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    owner: str
    def __init__(self, session: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "owner")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    owner: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token", "store_id")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    store_id: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., store_id: _Optional[str] = ...) -> None: ...

class TouchSessionRequest(_message.Message):
    __slots__ = ("session", "generation", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    owner: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class TouchSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ResetSessionRequest(_message.Message):
    __slots__ = ("session", "generation", "request_id", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    request_id: str
    owner: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., request_id: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class ResetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ClaimSessionRequest(_message.Message):
    __slots__ = ("session", "generation", "request_id", "force", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    request_id: str
    force: bool
    owner: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., request_id: _Optional[str] = ..., force: _Optional[bool] = ..., owner: _Optional[str] = ...) -> None: ...

class ClaimSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ForkSessionRequest(_message.Message):
    __slots__ = ("source", "source_generation", "step", "session", "request_id", "idle_ttl_duration", "never_expires", "labels", "source_owner")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IDLE_TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    NEVER_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OWNER_FIELD_NUMBER: _ClassVar[int]
    source: str
    source_generation: int
    step: int
    session: str
    request_id: str
    idle_ttl_duration: _duration_pb2.Duration
    never_expires: bool
    labels: _containers.ScalarMap[str, str]
    source_owner: str
    def __init__(self, source: _Optional[str] = ..., source_generation: _Optional[int] = ..., step: _Optional[int] = ..., session: _Optional[str] = ..., request_id: _Optional[str] = ..., idle_ttl_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., never_expires: _Optional[bool] = ..., labels: _Optional[_Mapping[str, str]] = ..., source_owner: _Optional[str] = ...) -> None: ...

class ForkSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ExportSessionRequest(_message.Message):
    __slots__ = ("session", "generation", "window", "end", "request_id", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    window: bool
    end: bool
    request_id: str
    owner: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., window: _Optional[bool] = ..., end: _Optional[bool] = ..., request_id: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class ExportSessionResponse(_message.Message):
    __slots__ = ("export", "store_id")
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    export: SessionExport
    store_id: str
    def __init__(self, export: _Optional[_Union[SessionExport, _Mapping]] = ..., store_id: _Optional[str] = ...) -> None: ...

class MigrateSessionRequest(_message.Message):
    __slots__ = ("session", "generation", "request_id", "model_version", "state_session", "state_generation", "state_step", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_SESSION_FIELD_NUMBER: _ClassVar[int]
    STATE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_STEP_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    request_id: str
    model_version: str
    state_session: str
    state_generation: int
    state_step: int
    owner: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., request_id: _Optional[str] = ..., model_version: _Optional[str] = ..., state_session: _Optional[str] = ..., state_generation: _Optional[int] = ..., state_step: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class MigrateSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session", "generation", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    owner: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ("store_id",)
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    def __init__(self, store_id: _Optional[str] = ...) -> None: ...

class GetOutputsRequest(_message.Message):
    __slots__ = ("session", "generation", "first_step", "step_count", "owner")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    first_step: int
    step_count: int
    owner: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., first_step: _Optional[int] = ..., step_count: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class GetOutputsResponse(_message.Message):
    __slots__ = ("session", "generation", "first_step", "step_count", "outputs", "history", "store_id")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    first_step: int
    step_count: int
    outputs: _containers.RepeatedScalarFieldContainer[float]
    history: bytes
    store_id: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., first_step: _Optional[int] = ..., step_count: _Optional[int] = ..., outputs: _Optional[_Iterable[float]] = ..., history: _Optional[bytes] = ..., store_id: _Optional[str] = ...) -> None: ...

class PreviewStepsRequest(_message.Message):
    __slots__ = ("session", "generation", "step", "branch_count", "step_count", "frames", "resets")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESETS_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    step: int
    branch_count: int
    step_count: int
    frames: _containers.RepeatedScalarFieldContainer[float]
    resets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., step: _Optional[int] = ..., branch_count: _Optional[int] = ..., step_count: _Optional[int] = ..., frames: _Optional[_Iterable[float]] = ..., resets: _Optional[_Iterable[int]] = ...) -> None: ...

class PreviewStepsResponse(_message.Message):
    __slots__ = ("session", "generation", "step", "branch_count", "step_count", "outputs", "store_id")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    step: int
    branch_count: int
    step_count: int
    outputs: _containers.RepeatedScalarFieldContainer[float]
    store_id: str
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., step: _Optional[int] = ..., branch_count: _Optional[int] = ..., step_count: _Optional[int] = ..., outputs: _Optional[_Iterable[float]] = ..., store_id: _Optional[str] = ...) -> None: ...

class StepSessionRequest(_message.Message):
    __slots__ = ("session", "generation", "first_step", "step_count", "frames", "expected_history", "resets")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_HISTORY_FIELD_NUMBER: _ClassVar[int]
    RESETS_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    first_step: int
    step_count: int
    frames: _containers.RepeatedScalarFieldContainer[float]
    expected_history: bytes
    resets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., first_step: _Optional[int] = ..., step_count: _Optional[int] = ..., frames: _Optional[_Iterable[float]] = ..., expected_history: _Optional[bytes] = ..., resets: _Optional[_Iterable[int]] = ...) -> None: ...

class StepSessionResponse(_message.Message):
    __slots__ = ("session", "generation", "first_step", "step_count", "outputs", "history")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    first_step: int
    step_count: int
    outputs: _containers.RepeatedScalarFieldContainer[float]
    history: bytes
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., first_step: _Optional[int] = ..., step_count: _Optional[int] = ..., outputs: _Optional[_Iterable[float]] = ..., history: _Optional[bytes] = ...) -> None: ...

class StreamStepsRequest(_message.Message):
    __slots__ = ("session", "generation", "first_step", "step_count", "frames", "expected_history", "resets")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_HISTORY_FIELD_NUMBER: _ClassVar[int]
    RESETS_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    first_step: int
    step_count: int
    frames: _containers.RepeatedScalarFieldContainer[float]
    expected_history: bytes
    resets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., first_step: _Optional[int] = ..., step_count: _Optional[int] = ..., frames: _Optional[_Iterable[float]] = ..., expected_history: _Optional[bytes] = ..., resets: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamStepsResponse(_message.Message):
    __slots__ = ("session", "generation", "first_step", "step_count", "outputs", "error", "history")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    session: str
    generation: int
    first_step: int
    step_count: int
    outputs: _containers.RepeatedScalarFieldContainer[float]
    error: _status_pb2.Status
    history: bytes
    def __init__(self, session: _Optional[str] = ..., generation: _Optional[int] = ..., first_step: _Optional[int] = ..., step_count: _Optional[int] = ..., outputs: _Optional[_Iterable[float]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., history: _Optional[bytes] = ...) -> None: ...

class StepSessionsRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[StreamStepsRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[StreamStepsRequest, _Mapping]]] = ...) -> None: ...

class StepSessionsResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[StreamStepsResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[StreamStepsResponse, _Mapping]]] = ...) -> None: ...
