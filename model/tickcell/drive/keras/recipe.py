"""How a network for simulated drives is trained."""

from __future__ import annotations

from tickcell.model.keras.augmentation import Augmentation
from tickcell.model.keras.recipe import Recipe
from tickcell.model.keras.windows import Windowing

# At 50 Hz. A manoeuvre lasts some seconds, hundreds of steps; which way is north says
# nothing of it.
RECIPE = Recipe(
    Windowing(step_count=300, burn_in=60, batch_size=96, batch_count=30),
    Augmentation(turn=True),
    epochs=16,
    projection_scale=0.01,
    learning_rate=3e-3,
    halving_epochs=3,
    dropout=0.1,
    averaging=0.98,
)
