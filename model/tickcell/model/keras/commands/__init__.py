"""The commands that need TensorFlow: `train`, `export` and `evaluate`."""

from tickcell.model.keras.commands.evaluate import evaluate as evaluate
from tickcell.model.keras.commands.export import export as export
from tickcell.model.keras.commands.train import train as train

__all__ = ["evaluate", "export", "train"]
