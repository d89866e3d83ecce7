"""How a bundle does, as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tickcell.cli import tables

if TYPE_CHECKING:
    from tickcell.model.keras.evaluation import Evaluation, OutputScores
    from tickcell.model.keras.scored import Part, Scored
    from tickcell.model.keras.scores import ClassScores, Scores


def lines(measured: Evaluation, chosen: Scored) -> Iterator[str]:
    """Yields the tables of an evaluation, line by line, and says which output each is of."""
    for part in chosen.parts:
        yield _title(part, chosen)
        yield from _output(measured.by_output[part.name], part, chosen)
    if measured.unlabelled_count:
        yield f"not scored, without a label: {measured.unlabelled_count} frames"
    if measured.forgetting_s is None:
        yield "a hard push to the state still shows after half of the first recording's start"
    else:
        yield f"a hard push to the state is forgotten after {measured.forgetting_s:.1f} s"


def _title(part: Part, chosen: Scored) -> str:
    labelling = chosen.labelling
    kind = {
        "probability": "a probability",
        "classes": f"the probabilities of {len(labelling.classes)} classes",
        "number": f"a number in {labelling.unit}" if labelling.unit else "a number",
    }[labelling.kind]
    return f"output {part.name}, {kind}" + (f": {part.meaning}" if part.meaning else "")


def _output(of: OutputScores, part: Part, chosen: Scored) -> Iterator[str]:
    from tickcell.model.keras import scores
    from tickcell.model.keras.scores import BinaryScores, ClassScores

    rows = [*of.by_recording.items(), ("all", of.overall)]
    titles = [scores.TITLES[name] for name in scores.marks(of.overall)]
    if isinstance(of.overall, BinaryScores):
        yield from _table(["label 1", "accuracy", *titles, "TP", "FP", "TN", "FN"], rows)
        yield f"TP, FP, TN, FN: frames with label and output, threshold {part.threshold:g}"
    elif isinstance(of.overall, ClassScores):
        yield from _table(["accuracy", *titles], rows)
        yield "ROC AUC and AP: the means over the classes, each against all others"
        yield from _classes(of.overall, chosen.labelling.classes)
    else:
        yield from _table(titles, rows)
        if chosen.labelling.unit:
            yield f"MAE and RMSE: in {chosen.labelling.unit}"
    ages = ", ".join(f"{age}: {mark:.3f}" for age, mark in of.by_stream_age.items())
    if ages:
        yield f"{titles[0]} by age of the stream: {ages}"


def _table(titles: Sequence[str], rows: Sequence[tuple[str, Scores]]) -> Iterator[str]:
    cells = [["recording", "frames", *titles]]
    cells += [[name, str(of.frame_count), *_cells(of, titles)] for name, of in rows]
    yield from tables.columns(cells).splitlines()


def _cells(of: Scores, titles: Sequence[str]) -> list[str]:
    from tickcell.model.keras import scores
    from tickcell.model.keras.scores import BinaryScores, ClassScores

    found = {scores.TITLES[name]: f"{mark:.3f}" for name, mark in scores.marks(of).items()}
    if isinstance(of, BinaryScores | ClassScores):
        found["accuracy"] = f"{of.accuracy:.3f}"
    if isinstance(of, BinaryScores):
        found["label 1"] = f"{of.positive_share:.1%}"
        counts = (of.true_positive, of.false_positive, of.true_negative, of.false_negative)
        found |= zip(("TP", "FP", "TN", "FN"), map(str, counts), strict=True)
    # A measure that such a recording does not have, such as R2 where nothing varies.
    return [found.get(title, "-") for title in titles]


def _classes(of: ClassScores, classes: Sequence[str]) -> Iterator[str]:
    """Yields the confusion of classes, with the measures of each."""
    rows = [["label, said as", *classes, "ROC AUC", "AP"]]
    for name, counts in zip(classes, of.confusion, strict=True):
        measures = [
            f"{by_class[name]:.3f}" if name in by_class else "-"
            for by_class in (of.roc_auc, of.average_precision)
        ]
        rows.append([name, *map(str, counts), *measures])
    yield from tables.columns(rows).splitlines()
