"""What a recurrent network computes in one step, as cells for `keras.layers.RNN`.

    state = cell.get_initial_state(batch_size)
    for frame in sequence:
        output, state = cell(frame, state)

A cell is pure; the `RNN` layer, or whoever writes this loop, carries the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="tickcell")
class AdditiveCell(keras.layers.Layer):  # type: ignore[misc]  # Keras comes without types
    """One dense layer, applied again at every step: `state = tanh(W (state + frame) + b)`.

    The state is as wide as a frame, since the two are added, and it is the output.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        """Creates the cell.

        Args:
          units: the width of a frame and of the state.
          **kwargs: see `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units
        self.output_size = units
        self.layer = keras.layers.Dense(units, activation="tanh", name="layer")

    def build(self, input_shape: Sequence[int | None]) -> None:
        if input_shape[-1] != self.units:
            raise ValueError(
                f"{self.name}: got frames of {input_shape[-1]} readings, expected {self.units}, "
                "because frame and state are added; give it as many units as a frame has readings."
            )
        self.layer.build(input_shape)
        self.built = True

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Returns the state before the first frame: one tensor of zeros, `[B, units]`."""
        return [keras.ops.zeros((batch_size, self.units), self.compute_dtype)]

    def call(self, frame: Any, states: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Advances by one frame, `[B, units]`; the output is the next state."""
        state = self.layer(states[0] + frame)
        return state, [state]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tickcell")
class RNNCell(keras.layers.Layer):  # type: ignore[misc]  # Keras comes without types
    r"""Two recurrent layers, each with a linear projection in and layer normalisation out.

    With the frame $x_0$ and, for layer $i \in \{1, 2\}$, its state $s_i$:

    $$s_i' = \tanh(R_i (P_i x_{i-1} + p_i + s_i) + r_i), \qquad x_i = \mathrm{LN}_i(s_i')$$

    The output is $x_2$. The states are the values *before* layer normalisation. Each
    $R_i$ starts orthogonal, so that it neither grows nor shrinks what it carries on.
    """

    def __init__(
        self,
        recurrent_units_1: int,
        recurrent_units_2: int,
        *,
        projection_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Creates the cell.

        Args:
          recurrent_units_1: the width of the first layer and its state.
          recurrent_units_2: the width of the second layer, its state and the output.
          projection_scale: the variance that the linear projections start with, as a
            multiple of Glorot's. What comes in at one step drives tanh to its limits,
            and a limit remembers nothing: 0.01 starts a cell that remembers hundreds of
            steps, 1 one that remembers a few.
          **kwargs: see `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.recurrent_units_1 = recurrent_units_1
        self.recurrent_units_2 = recurrent_units_2
        self.state_size = [recurrent_units_1, recurrent_units_2]
        self.output_size = recurrent_units_2
        self.projection_scale = projection_scale
        self.linear_1 = _projection(recurrent_units_1, projection_scale, "linear_1")
        self.linear_2 = _projection(recurrent_units_2, projection_scale, "linear_2")
        self.recurrent_layer_1 = _recurrent_layer(recurrent_units_1, "recurrent_layer_1")
        self.recurrent_layer_2 = _recurrent_layer(recurrent_units_2, "recurrent_layer_2")
        self.layer_norm_1 = keras.layers.LayerNormalization(name="layer_norm_1")
        self.layer_norm_2 = keras.layers.LayerNormalization(name="layer_norm_2")

    def build(self, input_shape: Sequence[int | None]) -> None:
        first, second = (None, self.recurrent_units_1), (None, self.recurrent_units_2)
        self.linear_1.build(input_shape)
        self.recurrent_layer_1.build(first)
        self.layer_norm_1.build(first)
        self.linear_2.build(first)
        self.recurrent_layer_2.build(second)
        self.layer_norm_2.build(second)
        self.built = True

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Returns the states before the first frame: zeros, `[B, units_1]` and `[B, units_2]`."""
        return [
            keras.ops.zeros((batch_size, units), self.compute_dtype) for units in self.state_size
        ]

    def call(self, frame: Any, states: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Advances by one frame.

        Args:
          frame: `[B, F]`.
          states: `[B, recurrent_units_1]` and `[B, recurrent_units_2]`.

        Returns:
          `(output, next_states)`; `output` is `[B, recurrent_units_2]`.
        """
        state_1 = self.recurrent_layer_1(self.linear_1(frame) + states[0])
        x = self.layer_norm_1(state_1)
        state_2 = self.recurrent_layer_2(self.linear_2(x) + states[1])
        return self.layer_norm_2(state_2), [state_1, state_2]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_units_1": self.recurrent_units_1,
            "recurrent_units_2": self.recurrent_units_2,
            "projection_scale": self.projection_scale,
        }


def _projection(units: int, scale: float, name: str) -> Any:
    glorot = keras.initializers.VarianceScaling(scale, mode="fan_avg", distribution="uniform")
    return keras.layers.Dense(units, kernel_initializer=glorot, name=name)


def _recurrent_layer(units: int, name: str) -> Any:
    return keras.layers.Dense(
        units, activation="tanh", kernel_initializer=keras.initializers.Orthogonal(), name=name
    )
