"""The wire's messages and the domain's values, one into the other."""

from __future__ import annotations

import base64
import math
import uuid
from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2, timestamp_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tickcell import wire
from tickcell.model import ids
from tickcell.server import beginnings, errors, exports, owners
from tickcell.server.catalogue import MAX_ORDER
from tickcell.server.config import NANOSECONDS
from tickcell.server.life_requests import Creation
from tickcell.server.migration import BurnIn
from tickcell.server.preview import PreviewRequest
from tickcell.v1 import model_service_pb2, session_service_pb2
from tickcell.wire import history
from tickcell.wire.stream_codec import StepFields

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.catalogue import ServedModel
    from tickcell.server.config import Config
    from tickcell.server.model_versions import ModelVersion
    from tickcell.server.preview import Previewed
    from tickcell.server.record import Record
    from tickcell.server.rounds import Stepped
    from tickcell.server.store.contract import Key

    # What asks for a new session.
    _Creating = session_service_pb2.CreateSessionRequest | session_service_pb2.ForkSessionRequest

DOMAIN = "tickcell"

_MAX_LABELS = 16
_MAX_LABEL_KEY_BYTES = 63
_MAX_LABEL_VALUE_BYTES = 255

_DEFAULT_WINDOW = 32
_DEFAULT_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 1000
# Where a page begins: an owner and a session's id, or what orders a model's versions.
_MAX_PLACE = max(owners.MAX_BYTES + 1 + ids.MAX_LENGTH, MAX_ORDER)


def status(error: errors.TickcellError) -> status_pb2.Status:
    """Returns an error as it goes over the wire."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=str(error))
    status.details.add().Pack(info)
    if error.retry_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(math.ceil(error.retry_s * NANOSECONDS))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def step(message: Any, *, is_stream: bool) -> StepFields:
    """Reads a step message, parsed as its twin.

    Raises:
      ArgumentInvalid: the id or the history is malformed, or an index is missing.
    """
    session = message.session
    if len(session) > ids.MAX_LENGTH:
        # Any other malformed id is an unknown one; this one is no key either.
        session_id(session)
    generation = message.generation if message.HasField("generation") else None
    first_step = message.first_step if message.HasField("first_step") else None
    if (generation is None or first_step is None) and (
        is_stream or not (generation is None and first_step is None)
    ):
        missing = "generation" if generation is None else "first_step"
        raise errors.ArgumentInvalid(
            f"{session}: {missing}: is missing; a step names its generation and first_step"
            + ("." if is_stream else ", or neither for the next step."),
            session=session,
            field=missing,
        )
    return StepFields(
        session,
        generation,
        first_step,
        message.step_count,
        message.frames,
        _expected_history(message),
        tuple(message.resets),
    )


def _expected_history(message: Any) -> bytes | None:
    expected: bytes = message.expected_history
    if not expected:
        return None
    if len(expected) != history.SIZE:
        raise errors.ArgumentInvalid(
            f"{message.session}: expected_history: got {len(expected)} bytes, expected "
            f"{history.SIZE}, as in the previous reply.",
            session=message.session,
            field="expected_history",
            got=len(expected),
            expected=history.SIZE,
        )
    return expected


def answer(asked: StepFields, answered: Stepped) -> bytes:
    """Returns the encoded response to a unary request that was applied."""
    return _applied(wire.StepSessionResponse, asked, answered)


def answered_step(asked: StepFields, answered: Stepped) -> bytes:
    """Returns the encoded response to one of several requests, which was applied."""
    return _applied(wire.StreamStepsResponse, asked, answered)


def _applied(kind: Any, asked: StepFields, answered: Stepped) -> bytes:
    encoded: bytes = kind(
        session=asked.session,
        generation=answered.generation,
        first_step=answered.first_step,
        step_count=asked.step_count,
        outputs=answered.outputs,
        history=answered.history,
    ).SerializeToString()
    return encoded


def outputs(session: str, kept: Stepped, store_id: str) -> bytes:
    """Returns the encoded response to a request for outputs of the window."""
    encoded: bytes = wire.GetOutputsResponse(
        session=session,
        generation=kept.generation,
        first_step=kept.first_step,
        step_count=kept.stored,
        outputs=kept.outputs,
        history=kept.history,
        store_id=store_id,
    ).SerializeToString()
    return encoded


def refused_step(named: Any, error: errors.TickcellError) -> bytes:
    """Returns the encoded response to a request that was refused, and whose call goes on.

    Args:
      named: the request's fields, its message, or None if it is none.
      error: why.
    """
    response = wire.StreamStepsResponse(error=status(error))
    if named is not None:
        response.session = named.session
        response.generation = named.generation
        response.first_step = named.first_step
    encoded: bytes = response.SerializeToString()
    return encoded


def preview(message: Any, caller: Caller) -> PreviewRequest:
    """Reads a request for a preview, parsed as its twin.

    Raises:
      ArgumentInvalid: the id is malformed, or generation or step is missing.
    """
    session = session_id(message.session)
    meant = generation(message)
    if not message.HasField("step"):
        raise errors.ArgumentInvalid(
            f"{session}: step: is missing; a preview names the session's next step.",
            session=session,
            field="step",
        )
    branches = message.branch_count or 1
    key = caller.key(session)
    return PreviewRequest(
        key,
        meant,
        message.step,
        branches,
        message.step_count,
        message.frames,
        tuple(message.resets),
    )


def previewed(asked: PreviewRequest, answered: Previewed, store_id: str) -> bytes:
    """Returns the encoded response to a request for a preview."""
    encoded: bytes = wire.PreviewStepsResponse(
        session=asked.session,
        generation=answered.generation,
        step=asked.first_step,
        branch_count=asked.branch_count,
        step_count=asked.step_count,
        outputs=answered.outputs,
        store_id=store_id,
    ).SerializeToString()
    return encoded


def session_id(text: str, field: str = "session") -> str:
    """Returns a session's id, which is in some field, if it is well formed.

    Raises:
      ArgumentInvalid: it is not.
    """
    if not ids.is_id(text):
        raise errors.ArgumentInvalid(
            f"{field}: got {text[:80]!r}, expected {ids.EXPECTED}.",
            field=field,
            got=text[:80],
        )
    return text


def request_id(text: str) -> str:
    """Returns a request's id in its canonical form.

    Raises:
      ArgumentInvalid: it is not a UUID.
    """
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise errors.ArgumentInvalid(
            f"request_id: got {text[:80]!r}, expected a UUID such as "
            "'6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31'.",
            field="request_id",
            got=text[:80],
        ) from error


def generation(message: Any, field: str = "generation") -> int:
    """Returns the generation that a request names in some field.

    Raises:
      ArgumentInvalid: it names none.
    """
    named = int(getattr(message, field))
    if named <= 0:
        raise errors.ArgumentInvalid(
            f"{field}: got {named or 'none'}, expected that of the session, as GetSession shows "
            "it.",
            field=field,
            got=named,
        )
    return named


def claimed_generation(message: session_service_pb2.ClaimSessionRequest) -> int | None:
    """Returns the generation that a claim names; None if it means whichever lives.

    Raises:
      ArgumentInvalid: it names none and does not mean that, or one beside that.
    """
    if not message.force:
        return generation(message)
    if message.generation:
        raise errors.ArgumentInvalid(
            f"generation: got {message.generation} with force, which claims any "
            "generation; omit one of the two.",
            field="generation",
            got=message.generation,
        )
    return None


def creation(message: session_service_pb2.CreateSessionRequest, config: Config) -> Creation:
    """Reads a request for a new session.

    Raises:
      ArgumentInvalid: a field is malformed or out of its range.
    """
    identifier = request_id(message.request_id) if message.request_id else str(uuid.uuid4())
    limits = config.limits
    window = message.window_step_count or min(_DEFAULT_WINDOW, limits.max_window)
    series = message.series_count or 1
    _check_range("window_step_count", window, 1, limits.max_window)
    _check_range("series_count", series, 1, limits.max_request_rows)
    return Creation(
        session=_new_session_id(message.session or identifier),
        request_id=identifier,
        series_count=series,
        window=window,
        idle_ttl_ns=_idle_ttl_ns(message, config),
        labels=_labels(message),
    )


def initial_state(
    message: session_service_pb2.CreateSessionRequest, model: ServedModel
) -> beginnings.Start | None:
    """Returns what a session is to begin with; None for the cell's own beginning.

    The series that the tensors have are the session's, where it names none.

    Raises:
      ArgumentInvalid: the tensors are not those of the model's state.
    """
    given = message.initial_state_tensors
    if not given:
        return None
    series = message.series_count or next(iter(given[0].dimensions), 1)
    message.series_count = series
    try:
        state = exports.packed(given, model.cell.interface, max(1, series))
    except exports.StateError as error:
        raise errors.ArgumentInvalid(
            f"initial_state_tensors: {error}.",
            field="initial_state_tensors",
            got=error.got,
            expected=error.expected,
        ) from error
    return beginnings.Start(model.numerics, state)


def fill_from_export(
    message: session_service_pb2.CreateSessionRequest, content: session_service_pb2.SessionContent
) -> None:
    """Fills in what a request for a new session leaves to its export.

    Raises:
      ArgumentInvalid: it names another model, version or number of series, or a state beside.
    """
    if message.initial_state_tensors:
        raise errors.ArgumentInvalid(
            "initial_state_tensors: are given with an export, which has a state; omit one of the "
            "two.",
            field="initial_state_tensors",
        )
    for field in ("model", "model_version", "series_count"):
        named, own = getattr(message, field), getattr(content, field)
        if named and named != own:
            named, own = str(named)[:80], str(own)[:80]
            raise errors.ArgumentInvalid(
                f"{field}: got {named!r}, expected {own!r} as in the export, or nothing.",
                field=field,
                got=named,
                expected=own,
            )
        setattr(message, field, own)
    message.window_step_count = message.window_step_count or content.window_step_count
    if not message.labels:
        message.labels.update(content.labels)


def fork(message: session_service_pb2.ForkSessionRequest, config: Config) -> Creation:
    """Reads a request for a fork; its series and its window are its source's.

    Raises:
      ArgumentInvalid: a field is malformed or out of its range.
    """
    identifier = request_id(message.request_id)
    return Creation(
        session=_new_session_id(message.session or identifier),
        request_id=identifier,
        series_count=0,
        window=0,
        idle_ttl_ns=_idle_ttl_ns(message, config),
        labels=_labels(message),
    )


def burn_in(message: session_service_pb2.MigrateSessionRequest) -> BurnIn | None:
    """Returns the session whose state a migration takes; None to keep the own one.

    Raises:
      ArgumentInvalid: it is named incompletely.
    """
    if not message.state_session:
        return None
    return BurnIn(
        session_id(message.state_session, "state_session"),
        generation(message, "state_generation"),
        message.state_step if message.HasField("state_step") else None,
    )


def _new_session_id(text: str) -> str:
    if ids.is_reserved(text):
        raise errors.ArgumentInvalid(
            f"session: got {text}, which is reserved for a sequence of the Open Inference "
            "Protocol; choose another id.",
            field="session",
            got=text,
        )
    return session_id(text)


def page(message: Any) -> tuple[str, int]:
    """Returns behind what a page begins, "" for the first, and how much it may hold.

    Raises:
      ArgumentInvalid: the size is negative, or the token is not one of ours.
    """
    if message.page_size < 0:
        raise errors.ArgumentInvalid(
            f"page_size: got {message.page_size}, expected 0 or more.",
            field="page_size",
            got=message.page_size,
        )
    try:
        after = base64.b64decode(message.page_token, altchars=b"-_", validate=True).decode()
        if len(after) > _MAX_PLACE:
            raise ValueError("longer than any place")
    except ValueError as error:
        raise errors.ArgumentInvalid(
            f"page_token: got {message.page_token[:80]!r}, expected the next_page_token of the "
            "previous page, or nothing.",
            field="page_token",
            got=message.page_token[:80],
        ) from error
    return after, min(message.page_size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)


def page_token(last: str) -> str:
    """Returns the token of the page that begins behind `last`; "" gives ""."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def session(key: Key, record: Record, store_id: str) -> session_service_pb2.Session:
    """Returns a live session as callers see it."""
    life = record.life
    message = session_service_pb2.Session(
        id=key.session,
        generation=life.generation,
        next_step=record.next_step,
        state=session_service_pb2.SESSION_STATE_ACTIVE,
        model=life.model,
        model_version=life.model_version,
        model_fingerprint=life.fingerprint,
        numerics_digest=record.numerics.hex(),
        numerics_start_step=record.numerics_start_step,
        series_count=life.series_count,
        window_step_count=life.window,
        sensor_count=life.sensor_count,
        output_count=life.output_count,
        create_time=_timestamp(life.create_wall_ns),
        renew_time=_timestamp(record.renew_wall_ns),
        labels=life.labels,
        max_step_count=life.max_step_count,
        history=record.history_before(record.next_step),
        store_id=store_id,
        owner=key.owner,
        origin_step=life.origin_step,
    )
    if record.expire_wall_ns is not None:
        message.expire_time.CopyFrom(_timestamp(record.expire_wall_ns))
        message.idle_ttl_duration.CopyFrom(
            duration_pb2.Duration(
                seconds=life.idle_ttl_ns // NANOSECONDS, nanos=life.idle_ttl_ns % NANOSECONDS
            )
        )
    return message


def model(served: ServedModel) -> model_service_pb2.Model:
    """Returns a served model as callers see it."""
    card, interface = served.card, served.cell.interface
    return model_service_pb2.Model(
        name=card.name,
        version=card.version,
        fingerprint=served.fingerprint,
        numerics_digest=served.numerics.hex(),
        rate_hz=card.rate_hz,
        sensors=[
            model_service_pb2.Sensor(
                name=sensor.name,
                unit=sensor.unit,
                min_reading=sensor.min_reading,
                max_reading=sensor.max_reading,
                whole=sensor.whole,
            )
            for sensor in interface.sensors
        ],
        state_tensors=[
            model_service_pb2.TensorSpec(
                name=tensor.name, dimensions=tensor.shape, dtype=tensor.dtype
            )
            for tensor in interface.state_tensors
        ],
        output_names=interface.output_names,
        outputs=[
            model_service_pb2.Output(
                name=head.name,
                size=head.size,
                kind=f"OUTPUT_KIND_{head.kind.upper()}",
                classes=head.classes,
                unit=card.outputs[head.name].unit,
                meaning=card.outputs[head.name].meaning,
                threshold=card.outputs[head.name].threshold,
            )
            for head in interface.heads
        ],
        mask_value=interface.mask_value,
        warm_up_step_count=card.warm_up_steps,
    )


def model_version(known: ModelVersion) -> model_service_pb2.ModelVersion:
    """Returns a model's version as callers see it."""
    return model_service_pb2.ModelVersion(
        name=known.pin.model,
        version=known.pin.version,
        fingerprint=known.pin.fingerprint,
        state=f"MODEL_VERSION_STATE_{known.state.name}",
        session_count=known.session_count,
        is_default=known.is_default,
        problem=known.problem,
    )


def _timestamp(nanoseconds: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(
        seconds=nanoseconds // NANOSECONDS, nanos=nanoseconds % NANOSECONDS
    )


def _check_range(field: str, got: int, lowest: int, highest: int) -> None:
    if not lowest <= got <= highest:
        raise errors.ArgumentInvalid(
            f"{field}: got {got}, expected {lowest} to {highest}.",
            field=field,
            got=got,
            min=lowest,
            max=highest,
        )


def _idle_ttl_ns(message: _Creating, config: Config) -> int:
    """Returns the time to live that is asked for; 0 means never."""
    if not message.HasField("idle_ttl_duration"):
        return 0 if message.never_expires else round(config.idle_ttl_s * NANOSECONDS)
    if message.never_expires:
        raise errors.ArgumentInvalid(
            "never_expires: got true with an idle_ttl_duration, expected one of the two.",
            field="never_expires",
        )
    duration = message.idle_ttl_duration
    asked_ns = duration.seconds * NANOSECONDS + duration.nanos
    if not 0 < asked_ns <= config.limits.max_idle_ttl_s * NANOSECONDS:
        raise errors.ArgumentInvalid(
            f"idle_ttl_duration: got {asked_ns / NANOSECONDS:g} s, expected above 0 and at most "
            f"{config.limits.max_idle_ttl_s:g} s; use never_expires for a session without end.",
            field="idle_ttl_duration",
            got=asked_ns / NANOSECONDS,
            max=config.limits.max_idle_ttl_s,
        )
    return asked_ns


def _labels(message: _Creating) -> dict[str, str]:
    labels = dict(message.labels)
    _check_range("labels", len(labels), 0, _MAX_LABELS)
    for key, value in labels.items():
        _check_range(f"labels[{key[:80]!r}]: key bytes", len(key.encode()), 1, _MAX_LABEL_KEY_BYTES)
        _check_range(
            f"labels[{key!r}]: value bytes", len(value.encode()), 0, _MAX_LABEL_VALUE_BYTES
        )
    return labels
