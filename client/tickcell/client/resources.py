"""What a server has, as plain values: its models and its sessions."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

from tickcell.model import Sensor, TensorSpec
from tickcell.v1 import model_service_pb2

if TYPE_CHECKING:
    from tickcell.v1 import session_service_pb2

# One that only a newer server knows is taken for a number, as the contract says.
_KINDS = {
    model_service_pb2.OUTPUT_KIND_PROBABILITY: "probability",
    model_service_pb2.OUTPUT_KIND_CLASSES: "classes",
    model_service_pb2.OUTPUT_KIND_NUMBER: "number",
}


@dataclasses.dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as the server described it last; the fields are those of the wire's Session.

    Attributes:
      idle_ttl_s: how long it may be idle; None if it never expires.
      expire_time: when it expires unless it is renewed; None if it never does.
      max_step_count: the most steps in one request.
      history: before the next step: 8 bytes that stand for all frames until then.
      store_id: identifies the store that keeps it.
      owner: whose it is; "" where it was created while callers were not identified.
      origin_step: to which a reset returns; above 0 for a fork.
    """

    id: str
    generation: int
    next_step: int
    model: str
    model_version: str
    model_fingerprint: str
    numerics_digest: str
    numerics_start_step: int
    series_count: int
    window_step_count: int
    sensor_count: int
    output_count: int
    idle_ttl_s: float | None
    expire_time: datetime.datetime | None
    create_time: datetime.datetime
    renew_time: datetime.datetime
    labels: dict[str, str]
    max_step_count: int
    history: bytes
    store_id: str
    owner: str
    origin_step: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """What some numbers of an output row are; the fields are those of the wire's Output.

    Attributes:
      kind: "probability", "classes" or "number".
      threshold: of a probability; None for the other kinds.
    """

    name: str
    size: int
    kind: str
    classes: tuple[str, ...]
    unit: str
    meaning: str
    threshold: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """A model that is served; the fields are those of the wire's Model.

    Attributes:
      output_names: of the numbers of an output row.
      outputs: what they are.
      mask_value: what all readings of a masked frame are; None where the model has no mask.
    """

    name: str
    version: str
    fingerprint: str
    numerics_digest: str
    rate_hz: float
    sensors: tuple[Sensor, ...]
    state_tensors: tuple[TensorSpec, ...]
    output_names: tuple[str, ...]
    outputs: tuple[Output, ...]
    mask_value: float | None
    warm_up_step_count: int


@dataclasses.dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model as a server knows it; the fields are those of the wire's ModelVersion.

    Attributes:
      state: how it stands: "ready", "retired", "available", "loading", "broken" or "missing";
        one that this client does not know yet is its number.
    """

    name: str
    version: str
    fingerprint: str
    state: str
    session_count: int
    is_default: bool
    problem: str


def session_info(session: session_service_pb2.Session) -> SessionInfo:
    """Returns the wire's Session as a value."""
    expires = session.HasField("idle_ttl_duration")
    return SessionInfo(
        id=session.id,
        generation=session.generation,
        next_step=session.next_step,
        model=session.model,
        model_version=session.model_version,
        model_fingerprint=session.model_fingerprint,
        numerics_digest=session.numerics_digest,
        numerics_start_step=session.numerics_start_step,
        series_count=session.series_count,
        window_step_count=session.window_step_count,
        sensor_count=session.sensor_count,
        output_count=session.output_count,
        idle_ttl_s=session.idle_ttl_duration.ToTimedelta().total_seconds() if expires else None,
        expire_time=session.expire_time.ToDatetime(datetime.UTC) if expires else None,
        create_time=session.create_time.ToDatetime(datetime.UTC),
        renew_time=session.renew_time.ToDatetime(datetime.UTC),
        labels=dict(session.labels),
        max_step_count=session.max_step_count,
        history=session.history,
        store_id=session.store_id,
        owner=session.owner,
        origin_step=session.origin_step,
    )


def model_version(known: model_service_pb2.ModelVersion) -> ModelVersion:
    """Returns the wire's ModelVersion as a value."""
    states = model_service_pb2.ModelVersionState
    name = states.Name(known.state) if known.state in states.values() else str(known.state)
    return ModelVersion(
        name=known.name,
        version=known.version,
        fingerprint=known.fingerprint,
        state=name.removeprefix("MODEL_VERSION_STATE_").lower(),
        session_count=known.session_count,
        is_default=known.is_default,
        problem=known.problem,
    )


def model(served: model_service_pb2.Model) -> Model:
    """Returns the wire's Model as a value."""
    return Model(
        name=served.name,
        version=served.version,
        fingerprint=served.fingerprint,
        numerics_digest=served.numerics_digest,
        rate_hz=served.rate_hz,
        sensors=tuple(
            Sensor(
                sensor.name,
                sensor.unit,
                sensor.min_reading,
                sensor.max_reading,
                whole=sensor.whole,
            )
            for sensor in served.sensors
        ),
        state_tensors=tuple(
            TensorSpec(tensor.name, tuple(tensor.dimensions), tensor.dtype)
            for tensor in served.state_tensors
        ),
        output_names=tuple(served.output_names),
        outputs=tuple(map(_output, served.outputs)),
        mask_value=served.mask_value if served.HasField("mask_value") else None,
        warm_up_step_count=served.warm_up_step_count,
    )


def _output(output: model_service_pb2.Output) -> Output:
    return Output(
        name=output.name,
        size=output.size,
        kind=_KINDS.get(output.kind, "number"),
        classes=tuple(output.classes),
        unit=output.unit,
        meaning=output.meaning,
        threshold=output.threshold if output.HasField("threshold") else None,
    )
