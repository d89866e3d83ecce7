"""The gates of an export: each way of computing the outputs against the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tickcell.model import agreement
from tickcell.model.agreement import Agreement, AgreementError
from tickcell.model.keras import sequence
from tickcell.model.keras.rules.rule import naming

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.keras.step import Step

_LENGTHS = (4, 7, 50)
_KERAS_STEP_COUNT = 200

# A push that has grown a hundredfold after so many steps is not forgotten.
AMPLIFIES = 100.0


def expected(step: Step, frames: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Returns the outputs of the model's layers over whole sequences.

    Raises:
      AgreementError: they are not all finite.
    """
    with naming(step.model):
        outputs = sequence.outputs(step.plan, frames)
    strange = ~np.isfinite(outputs[:, step.plan.lag :])
    if strange.any():
        _require_finite_weights(step.model)
        at = step.plan.lag + int(strange.any(axis=(0, 2)).argmax())
        raise AgreementError(
            f"{step.model.name}: on the {name} its output is not finite at step {at}, so nothing "
            "can be compared; name a recording that it was trained for with --golden."
        )
    return outputs


def check_as_trained(step: Step, frames: NDArray[np.float32], outputs: NDArray[np.float32]) -> None:
    """Compares the model, called as it was trained, with its layers over any length."""
    for step_count in _lengths(step):
        got, compared, is_given = _both(step.model, step, frames, outputs, step_count)
        masked = np.where(is_given, compared, np.nan)
        if not agreement.compare(got, masked).is_close:
            again, _, _ = _both(step.model, step, frames, outputs, step_count)
            if not np.array_equal(got, again, equal_nan=True):
                raise AgreementError(
                    f"{step.model.name}: returns something else each time that it is called; "
                    "remove what is random."
                )
        _require_close(step.model, "its layers over the whole sequence", got, masked)


def delta_in_own_precision(
    model: Any, step: Step, frames: NDArray[np.float32], outputs: NDArray[np.float32]
) -> float:
    """Measures how far a model of another precision is from its rebuild in float32."""
    step_count = _lengths(step)[-1]
    got, compared, is_given = _both(model, step, frames, outputs, step_count)
    return float(np.nanmax(np.abs(got - compared)[:, is_given]))


def check_keras_step(step: Step, frames: NDArray[np.float32], outputs: NDArray[np.float32]) -> None:
    """Compares the model's layers one frame at a time with whole sequences."""
    run = tf.function(step, autograph=False)
    states = step.initial_states(len(frames))
    rows = []
    for index in range(_KERAS_STEP_COUNT):
        output, states = run(tf.constant(frames[:, index]), states)
        rows.append(np.asarray(output))
    got = np.stack(rows, axis=1)
    _require_close(
        step.model, "its layers one frame at a time", got, outputs[:, :_KERAS_STEP_COUNT]
    )


def check_graph(model: Any, name: str, measured: Agreement, growth: float) -> None:
    """Refuses a graph that is wrong, not one whose recurrence amplifies its last bits."""
    within = measured.growth[min(measured.growth, key=int)]
    amplified = growth > AMPLIFIES and within <= measured.tolerance
    if not measured.is_close and not amplified:
        raise AgreementError(
            f"{model.name}: the LiteRT graph differs from Keras on {name} by "
            f"{measured.max_delta:.2g} at step {measured.at_step}, expected at most "
            f"{measured.tolerance:.2g}."
        )


def _require_finite_weights(model: Any) -> None:
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight)).all():
            raise AgreementError(
                f"{model.name}: weight {weight.path!r} is not finite, as after a training that "
                "diverged; export an earlier checkpoint, or train it again."
            )


def _lengths(step: Step) -> tuple[int, ...]:
    if step.plan.step_count is not None:
        return (step.plan.step_count,)
    return tuple(sorted({step.plan.lag + length for length in _LENGTHS}))


def _both(
    model: Any,
    step: Step,
    frames: NDArray[np.float32],
    outputs: NDArray[np.float32],
    step_count: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Returns `[B, T, O]` of the model itself and of its layers, and what of it is given."""
    series_count = step.plan.series_count or len(frames)
    rows = np.resize(frames, (series_count, *frames.shape[1:]))[:, :step_count]
    compared = np.resize(outputs, (series_count, *outputs.shape[1:]))[:, :step_count]
    got, is_given = sequence.as_trained(model, step.plan, rows)
    return got, compared, is_given


def _require_close(
    model: Any, name: str, got: NDArray[np.float32], compared: NDArray[np.float32]
) -> None:
    measured = agreement.compare(got, compared)
    if not measured.is_close:
        raise AgreementError(
            f"{model.name}: {name} and the model as it was trained differ by "
            f"{measured.max_delta:.2g} at step {measured.at_step}, expected at most "
            f"{measured.tolerance:.2g}."
        )
