"""What a run says of the network it trained: its description, with where it comes from."""

from __future__ import annotations

import importlib.metadata
from typing import Any, Protocol

from tickcell.model.keras.datasets import Dataset
from tickcell.model.keras.description import Description
from tickcell.model.keras.recipe import Recipe
from tickcell.model.outputs import Described


class Source(Protocol):
    """Where training data comes from."""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain data."""


def describe(name: str, source: Source, recipe: Recipe, dataset: Dataset) -> Description:
    """Describes the network of a run."""
    labelling = dataset.labelling
    return Description(
        name=name,
        version=str(recipe.seed + 1),
        sensors=dataset.sensors,
        rate_hz=dataset.rate_hz,
        outputs=(
            Described(
                dataset.output_name,
                labelling.kind,
                labelling.classes,
                labelling.unit,
                dataset.output_meaning,
            ),
        ),
        training={
            "source": source.to_dict(),
            "label": dataset.label_name,
            "recipe": recipe.to_dict(),
            "training_frames": sum(map(len, dataset.training)),
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("tickcell", "tensorflow", "keras")
            },
        },
    )
