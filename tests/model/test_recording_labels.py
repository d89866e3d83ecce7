"""Labels: what they are judged to be, and what becomes of each."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.model.recording import RecordingError
from tickcell.model.recording.labels import Kind, Labelling, Labels

WORDS = st.text(st.characters(categories=["Lu", "Ll"]), min_size=1, max_size=5).filter(
    lambda word: word.lower() not in ("nan", "inf", "infinity", "true", "false")
)


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["0", "1", ""], "probability", ()),
        ([0.0, 1.0, float("nan")], "probability", ()),
        ([True, False], "probability", ()),
        (["True", "false"], "probability", ()),
        (["walk", "sit", "walk", ""], "classes", ("sit", "walk")),
        (["10", "2", "1.0"], "classes", ("1", "2", "10")),
        ([3, 1, None], "classes", ("1", "3")),
        (["0.5", "12.25"], "number", ()),
        (range(100), "number", ()),
    ],
)
def test_labels_are_judged_by_all_of_their_values(
    values: Any, kind: Kind, classes: tuple[str, ...]
) -> None:
    assert Labelling.judged(values) == Labelling(kind, classes)


def test_a_null_class_is_the_same_label_however_it_is_written() -> None:
    assert Labelling.judged(["0.0", "1", "2"], null_class="0").classes == ("1", "2")
    assert np.isnan(Labelling("number", null_class="False").encode([False])[0])


def test_what_labels_are_can_be_said() -> None:
    assert Labelling.judged(["1", "2"], kind="number").kind == "number"
    assert Labelling.judged(["0", "1"], kind="classes").classes == ("0", "1")
    assert Labelling.judged(["0", "oops"], kind="classes").classes == ("0", "oops")


@given(st.lists(WORDS, min_size=2, max_size=8, unique=True), st.data())
def test_a_class_becomes_its_place_and_an_empty_label_none(
    classes: list[str], data: st.DataObject
) -> None:
    labels = data.draw(st.lists(st.sampled_from([*classes, "", " "]), min_size=1))
    null_class = data.draw(st.sampled_from([None, *classes])) if len(classes) > 2 else None

    labelling = Labelling.judged(classes, null_class=null_class)
    codes = labelling.encode(labels)

    for label, code in zip(labels, codes, strict=True):
        if label.strip() and label != null_class:
            assert labelling.classes[int(code)] == label
        else:
            assert np.isnan(code)
    assert null_class not in labelling.classes


@pytest.mark.parametrize(
    ("labelling", "wrong"),
    [
        (Labelling(), "2"),
        (Labelling(), "walk"),
        (Labelling("classes", ("sit", "walk")), "run"),
        (Labelling("number"), "far"),
        (Labelling("number"), "inf"),
    ],
)
def test_a_label_that_is_none_of_them_is_marked(labelling: Labelling, wrong: str) -> None:
    assert np.isinf(labelling.encode([wrong])[0])


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        (["walk", "1"], "number", "got walk, expected a number"),
        (["0", "1", "2"], "probability", "expected 0 or 1"),
        (["", None], None, "there are none"),
        (["0", "1", "oops"], None, r"got words \(oops\) beside numbers \(0, 1\)"),
        (["walk"], None, "expected two or more"),
    ],
)
def test_labels_that_cannot_be_what_was_said_are_refused(
    values: Any, kind: Kind | None, says: str
) -> None:
    with pytest.raises(RecordingError, match=says):
        Labelling.judged(values, kind=kind)


def test_a_countdown_ends_at_0_and_begins_at_its_cap() -> None:
    times = [np.arange(5.0), np.array([10.0, 20.0])]

    first, second = Labels(countdown=True, cap=3).assigned(times, Labelling("number"))

    assert first.tolist() == [3, 3, 2, 1, 0]
    assert second.tolist() == [3, 0]


def test_a_file_has_a_label_for_each_recording(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "rul.txt"
    file.write_text("112 \n98\n\n")
    labels = Labels(file=str(file))
    times = [np.arange(2.0), np.arange(3.0)]

    found = labels.assigned(times, Labelling("number"))

    assert [each.tolist() for each in found] == [[112, 112], [98, 98, 98]]
    with pytest.raises(RecordingError, match="has 2 labels, expected 1"):
        labels.assigned(times[:1], Labelling("number"))
    with pytest.raises(RecordingError, match="line 1: got '112', expected 0 or 1"):
        labels.assigned(times, Labelling())


def test_a_countdown_takes_no_file_and_no_cap_of_0() -> None:
    with pytest.raises(RecordingError, match="no file of labels goes with it"):
        Labels(countdown=True, file="rul.txt")
    with pytest.raises(RecordingError, match="expected a cap above 0"):
        Labels(countdown=True, cap=0)
