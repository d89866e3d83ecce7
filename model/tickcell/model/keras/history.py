"""The losses and accuracies of a run, an epoch a row, in a CSV that a stopped run goes on with."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Sequence


class History:
    """Rows of numbers by name, the first epoch's first; each is on disk once it is added."""

    def __init__(self, path: pathlib.Path, keep: int = 0) -> None:
        """Reads the first `keep` rows of an earlier run, and drops the others."""
        self._path = path
        self.rows: list[dict[str, float]] = []
        if keep:
            with path.open(newline="") as lines:
                rows = [
                    {name: float(value) for name, value in row.items()}
                    for row in csv.DictReader(lines)
                ]
            self.rows = rows[:keep]
        self._write()

    @classmethod
    def mean(cls, histories: Sequence[History], path: pathlib.Path) -> History:
        """Writes the means of the rows of runs, as far as all of them came."""
        history = cls(path)
        for rows in zip(*(each.rows for each in histories), strict=False):
            names = [name for name in rows[0] if name != "epoch"]
            history.add({name: sum(row[name] for row in rows) / len(rows) for name in names})
        return history

    def add(self, row: dict[str, float]) -> None:
        """Adds the row of one epoch."""
        self.rows.append({"epoch": len(self.rows), **row})
        self._write()

    def column(self, name: str) -> list[float]:
        """Returns one number of each epoch; empty where the run does not have it."""
        return [row[name] for row in self.rows if name in row]

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the lowest validation loss, counted from 0."""
        losses = [loss if math.isfinite(loss) else math.inf for loss in self.column("val_loss")]
        return losses.index(min(losses)) if losses else None

    def is_exhausted(self, patience: int | None) -> bool:
        """Says whether the last `patience` epochs brought no better validation loss."""
        best = self.best_epoch
        return patience is not None and best is not None and len(self.rows) - 1 - best >= patience

    def _write(self) -> None:
        names = list(self.rows[0]) if self.rows else ["epoch"]
        with self._path.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "epoch": int(row["epoch"])} for row in self.rows)
