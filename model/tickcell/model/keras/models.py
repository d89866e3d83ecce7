"""Recurrent networks over whole sequences, `[B, T, F]` in and probabilities out.

Both are functional Keras models with a constructor of their own: they train with
`fit`, save as `.keras` and load without `custom_objects` once this module is
imported, and `step` can take them apart into one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tickcell.model.keras.cells import AdditiveCell, RNNCell


@keras.saving.register_keras_serializable(package="tickcell")
class UnrolledRNN(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """The plainest recurrent network: one dense layer, over and over, and a sigmoid at the end.

    Gives `[B, 1]`, the output at the last frame, or `[B, T, 1]` with `return_sequences`.
    """

    def __init__(
        self, sensor_count: int = 10, *, return_sequences: bool = False, **kwargs: Any
    ) -> None:
        """Creates the network.

        Args:
          sensor_count: F, the readings in a frame.
          return_sequences: gives an output for each frame instead of the last one only.
          **kwargs: see `keras.Model`.
        """
        self._arguments = {"sensor_count": sensor_count, "return_sequences": return_sequences}
        frames = keras.Input((None, sensor_count), name="frames")
        recurrent = keras.layers.RNN(
            AdditiveCell(sensor_count, name="cell"),
            return_sequences=return_sequences,
            name="recurrent",
        )
        output = keras.layers.Dense(1, activation="sigmoid", name="output")
        super().__init__(frames, output(recurrent(frames)), **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "trainable": self.trainable, **self._arguments}


@keras.saving.register_keras_serializable(package="tickcell")
class RNNModel(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """Two recurrent layers over normalised readings, and a head.

    Gives `[B, O]`, the outputs at the last frame, or `[B, T, O]` with `return_sequences`: a
    probability, those of classes, which sum up to 1, or a number. The normalisation is part
    of the network, so it takes readings in the sensors' own units; it leaves them as they are
    until `normalisation.adapt` has seen some.
    """

    def __init__(
        self,
        recurrent_units_1: int = 24,
        recurrent_units_2: int = 48,
        *,
        sensor_count: int = 10,
        step_count: int | None = None,
        return_sequences: bool = False,
        unroll: bool = False,
        dropout: float = 0.0,
        projection_scale: float = 1.0,
        activation: str = "sigmoid",
        output_count: int = 1,
        output_scale: float = 1.0,
        output_offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Creates the network.

        Args:
          recurrent_units_1: the width of the first recurrent layer.
          recurrent_units_2: the width of the second recurrent layer.
          sensor_count: F, the readings in a frame.
          step_count: T, where all sequences are equally long; None takes any length.
          return_sequences: gives an output for each frame instead of the last one only.
          unroll: lays the loop over time out in the graph: faster for short sequences,
            at the cost of memory and of the time to build it; needs `step_count`.
          dropout: the share of the recurrent output that training hides from the head.
          projection_scale: see `RNNCell`.
          activation: of the head: "sigmoid", "softmax" or "linear".
          output_count: O.
          output_scale: the head's numbers are multiplied by it; with a linear activation, so
            that they come in their own unit.
          output_offset: is then added.
          **kwargs: see `keras.Model`.
        """
        self._arguments = {
            "recurrent_units_1": recurrent_units_1,
            "recurrent_units_2": recurrent_units_2,
            "sensor_count": sensor_count,
            "step_count": step_count,
            "return_sequences": return_sequences,
            "unroll": unroll,
            "dropout": dropout,
            "projection_scale": projection_scale,
            "activation": activation,
            "output_count": output_count,
            "output_scale": output_scale,
            "output_offset": output_offset,
        }
        frames = keras.Input((step_count, sensor_count), name="frames")
        normalised = keras.layers.Normalization(name="normalisation")(frames)
        recurrent = keras.layers.RNN(
            RNNCell(
                recurrent_units_1,
                recurrent_units_2,
                projection_scale=projection_scale,
                name="cell",
            ),
            return_sequences=return_sequences,
            unroll=unroll,
            name="recurrent",
        )(normalised)
        kept = keras.layers.Dropout(dropout, name="dropout")(recurrent)
        output = keras.layers.Dense(output_count, activation=activation, name="output")(kept)
        if activation == "linear":
            output = keras.layers.Rescaling(output_scale, output_offset, name="unit")(output)
        super().__init__(frames, output, **kwargs)

    @property
    def normalisation(self) -> Any:
        """The layer that brings each sensor's readings to mean 0 and deviation 1."""
        return self.get_layer("normalisation")

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "trainable": self.trainable, **self._arguments}


def mean(members: Sequence[RNNModel]) -> Any:
    """Returns a model that gives the mean of the outputs of networks of one kind.

    The mean of probabilities, also of those of classes, is one again.
    """
    frames = keras.Input(members[0].input_shape[1:], name="frames")
    outputs = []
    for number, member in enumerate(members, 1):
        # Trained apart, they may all have one name.
        named = RNNModel.from_config({**member.get_config(), "name": f"member_{number}"})
        named.set_weights(member.get_weights())
        outputs.append(named(frames))
    return keras.Model(frames, keras.layers.Average(name="mean")(outputs))
