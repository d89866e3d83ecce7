"""How a network is trained: every choice that is not data, with its default for each data set."""

from __future__ import annotations

import dataclasses
from typing import Any

from tickcell.model.keras.augmentation import Augmentation
from tickcell.model.keras.windows import Windowing


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Attributes:
      windowing: how recordings are cut into windows.
      augmentation: how windows are changed.
      epochs: passes over the windows.
      recurrent_units_1: the width of the first recurrent layer.
      recurrent_units_2: the width of the second recurrent layer.
      projection_scale: what the linear projections start with; see `RNNCell`.
      unroll: lays the loop over a window's steps out in the graph.
      learning_rate: of Adam, at the beginning.
      halving_epochs: epochs in which the learning rate halves; None keeps it.
      dropout: the share of the recurrent output that is hidden from the head.
      averaging: keeps a running average of the weights with this momentum, from 0 (none)
        up to 1; the average is what is validated and kept.
      patience: stops after so many epochs without a better validation loss, and keeps the
        best; None goes on to the end.
      checkpoint_epochs: epochs between two checkpoints that are kept.
      members: networks of seeds of their own, trained apart; the mean of their outputs is
        what is kept, and depends the less on the seed the more there are.
      seed: of weights, order, changes and dropout.
    """

    windowing: Windowing
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    epochs: int = 25
    recurrent_units_1: int = 24
    recurrent_units_2: int = 48
    projection_scale: float = 1.0
    unroll: bool = False
    learning_rate: float = 1e-3
    halving_epochs: float | None = None
    dropout: float = 0.0
    averaging: float = 0.0
    patience: int | None = None
    checkpoint_epochs: int = 10
    members: int = 1
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Recipe:
        """Makes a recipe of what `to_dict` gave."""
        parts = {
            "windowing": Windowing(**fields["windowing"]),
            "augmentation": Augmentation(**fields["augmentation"]),
        }
        return cls(**{**fields, **parts})


# The tutorial's: 1024 sequences of 28 frames with a label each.
NOISE = Recipe(Windowing(step_count=28, stride=28, each_step=False), unroll=True)

# Recordings of a phone on a windshield, at 10 Hz. They are few, so the network sees no window
# twice as it was: strong noise makes it look at what lasts, and the gyroscope, by which it
# would learn one trip's turns by heart, is hidden in all windows. Which network comes out
# still depends on its initial weights, so many are averaged. Chosen on two real drives, each
# left out in turn.
RECORDINGS = Recipe(
    Windowing(step_count=120, burn_in=30, batch_size=32, batch_count=5),
    Augmentation(turn=True, gain=2.0, gyro_dropout=1.0, noise=4.0),
    epochs=90,
    projection_scale=0.3,
    learning_rate=1e-3,
    dropout=0.3,
    averaging=0.98,
    members=15,
)


# Recordings of other sensors, of which nothing is known: nothing is changed about a window,
# and each is seen as often as there are windows, up to so many batches in an epoch.
OTHER_SENSORS = Recipe(
    Windowing(step_count=60, burn_in=10, batch_size=32, batch_count=50),
    epochs=30,
    projection_scale=0.3,
    learning_rate=3e-3,
    halving_epochs=10,
    dropout=0.1,
    averaging=0.98,
)


def of_sequences(step_count: int) -> Recipe:
    """Returns the recipe for whole sequences of so many frames, with one label each.

    It is the tutorial's, but not unrolled: these may be long.
    """
    windowing = Windowing(step_count=step_count, each_step=False)
    return dataclasses.replace(NOISE, windowing=windowing, unroll=False)
