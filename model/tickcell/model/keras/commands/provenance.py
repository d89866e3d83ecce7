"""What a run says of the network it trained: its description, with where it comes from."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib

import click

from tickcell.model.keras import archive, export, quality
from tickcell.model.keras.datasets import NOISE, Dataset, Source
from tickcell.model.keras.description import Description
from tickcell.model.keras.quiet import held_stderr
from tickcell.model.keras.recipe import Recipe


def describe(name: str, source: Source, recipe: Recipe, dataset: Dataset) -> Description:
    """Describes the network of a run."""
    meaning = "An aggressive manoeuvre is under way."
    output_name = "aggressive"
    if source.kind == NOISE:
        meaning, output_name = "Nothing: the labels were random.", "output"
    elif source.label != "aggressive":
        meaning, output_name = f"The label {source.label!r} is 1.", source.label
    elif all(path.lower().endswith(".npz") for path in source.data):
        # Arrays have no column whose name would say what is labelled.
        meaning, output_name = "The label is 1.", "output"
    return Description(
        name=name,
        version=str(recipe.seed + 1),
        sensors=dataset.sensors,
        rate_hz=dataset.rate_hz,
        output_meaning=meaning,
        output_name=output_name,
        training={
            "source": source.to_dict(),
            "recipe": recipe.to_dict(),
            "training_frames": sum(map(len, dataset.training)),
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("tickcell", "tensorflow", "keras")
            },
        },
    )


def with_quality(
    description: Description, dataset: Dataset, directory: pathlib.Path
) -> Description:
    """Adds how the network does on held-out drives; one that is not good enough is refused."""
    click.echo("streaming held-out drives, and training the single-frame network", err=True)
    held_out = quality.held_out()
    with held_stderr():
        single_frame = quality.single_frame_roc_auc(dataset.training, held_out)
    bundle = export.export(archive.load(directory / "model.keras"), description)
    metrics = {"held_out_drives": quality.measure(bundle, held_out, single_frame)}
    return dataclasses.replace(description, metrics=metrics)
