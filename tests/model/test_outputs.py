"""What is said of outputs is of the ones that are meant, or it is a sentence."""

from __future__ import annotations

import pytest

from tickcell.model.card import BundleError, Card, Output
from tickcell.model.interface import Head, InterfaceError
from tickcell.model.outputs import Described, described

SPEED, ACTIVITY = Head("speed", 1), Head("activity", 3, "classes")
RISKS = Head("output", 2, "probability")


def names(*given: str) -> list[Described]:
    return [Described(name) for name in given]


def test_outputs_of_which_nothing_is_said_are_the_model_s_own() -> None:
    assert described([], [SPEED, RISKS], "gait") == (
        (SPEED, RISKS),
        {"speed": Output(), "output": Output(threshold=0.5)},
    )


def test_the_model_s_own_names_may_come_in_any_order() -> None:
    said = [Described("activity", classes=("a", "b", "c")), Described("speed", unit="m/s")]

    heads, on_card = described(said, [SPEED, ACTIVITY], "gait")

    assert heads == (SPEED, Head("activity", 3, "classes", ("a", "b", "c")))
    assert on_card == {"speed": Output(unit="m/s"), "activity": Output()}


def test_other_names_take_the_place_of_the_model_s_in_order() -> None:
    heads, _ = described(names("pace", "gait"), [SPEED, ACTIVITY], "gait")

    assert heads == (Head("pace", 1), Head("gait", 3, "classes"))


def test_numbers_that_are_named_are_outputs_of_their_own() -> None:
    said = [Described("fall", threshold=0.2), Described("slip", meaning="A foot slips.")]

    heads, on_card = described(said, [RISKS], "gait")

    assert heads == (Head("fall", 1, "probability"), Head("slip", 1, "probability"))
    assert on_card == {
        "fall": Output(threshold=0.2),
        "slip": Output("A foot slips.", threshold=0.5),
    }


def test_names_of_the_numbers_of_classes_are_those_of_the_classes() -> None:
    heads, _ = described(names("speed", "sit", "walk", "run"), [SPEED, ACTIVITY], "gait")

    assert heads == (SPEED, Head("activity", 3, "classes", ("sit", "walk", "run")))


def test_a_kind_that_is_said_is_taken() -> None:
    said = [Described(name, "probability") for name in ("sit", "walk", "run")]

    heads, _ = described(said, [ACTIVITY], "gait")

    assert heads == tuple(Head(name, 1, "probability") for name in ("sit", "walk", "run"))


@pytest.mark.parametrize(
    "said",
    [names("pace"), names("activity", "pace"), names("pace", "speed"), names(*"abcde")],
    ids=["too few", "moved", "moved too", "too many"],
)
def test_what_could_be_of_another_output_is_refused(said: list[Described]) -> None:
    with pytest.raises(InterfaceError, match=r"its own are speed \[1\], activity \[3\]: name"):
        described(said, [SPEED, ACTIVITY], "gait")


@pytest.mark.parametrize(
    ("said", "own", "message"),
    [
        (Described("speed", classes=("slow", "fast")), SPEED, "of classes and has one number"),
        (Described("activity", classes=("sit", "walk")), ACTIVITY, "got 2 names of classes"),
        (Described("speed", "likely"), SPEED, "got size 1 and kind 'likely'"),
    ],
)
def test_an_output_that_cannot_be_is_refused(said: Described, own: Head, message: str) -> None:
    with pytest.raises(InterfaceError, match=message):
        described([said], [own], "gait")


@pytest.mark.parametrize(
    ("said", "own"),
    [(Described("speed", threshold=0.5), SPEED), (Described("output", unit="m"), RISKS)],
)
def test_an_output_has_no_more_than_its_kind(said: Described, own: Head) -> None:
    heads, on_card = described([said], [own], "gait")

    with pytest.raises(BundleError, match=f"output '{said.name}' is of the kind"):
        Card("gait", "1", 50.0, on_card, 0).check(heads)
