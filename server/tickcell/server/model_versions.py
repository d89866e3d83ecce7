"""What a server knows of every version of its models: what it gives out, keeps, or cannot load."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server import errors
from tickcell.server.catalogue import order
from tickcell.server.store.contract import Pin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tickcell.server.catalogue import Catalogue
    from tickcell.server.model_control import ModelControl
    from tickcell.server.repository import Place


class State(enum.Enum):
    """How a version stands.

    READY: new sessions get it, if they name it or it is the default. RETIRED: it goes on for
    the sessions that are pinned to it. AVAILABLE: it lies in the repository, not loaded.
    LOADING: it was seen there, and is served once it has settled. BROKEN: it lies there and
    cannot be served. MISSING: sessions are pinned to it, and it is not loaded.
    """

    READY = 1
    RETIRED = 2
    AVAILABLE = 3
    LOADING = 4
    BROKEN = 5
    MISSING = 6


class ModelVersion(NamedTuple):
    """A version of a model; there is more than one of a name whose content was exchanged.

    Attributes:
      pin: its name, version and fingerprint; "" for a fingerprint that is not known.
      state: how it stands.
      session_count: the live sessions of the store that are pinned to it.
      is_default: whether new sessions of its model get it when they name no version.
      problem: what is wrong with it, as a sentence; "" if nothing is.
    """

    pin: Pin
    state: State
    session_count: int
    is_default: bool
    problem: str


def every(
    control: ModelControl, catalogue: Catalogue, pinned: Mapping[Pin, int]
) -> list[ModelVersion]:
    """Returns all versions, by name, then version, then fingerprint.

    Args:
      control: knows the repository.
      catalogue: knows what is loaded.
      pinned: the live sessions of the store by version.
    """
    states = {model.pin: State.READY for model in catalogue}
    for model in catalogue.everything:
        states.setdefault(model.pin, State.RETIRED)
    problems = {}
    for place in {*control.seen, *control.versions}:
        pin, state, problem = _in_repository(control, place)
        states.setdefault(pin, state)
        problems[pin] = problem
    for pin in pinned:
        is_loaded = catalogue.loaded(pin.fingerprint) is not None
        states.setdefault(pin, State.RETIRED if is_loaded else State.MISSING)
        if pin in control.needs.missing:
            problems[pin] = control.needs.note(pin)
    defaults = _defaults(catalogue, {pin.model for pin in states})
    return [
        ModelVersion(
            pin,
            states[pin],
            pinned.get(pin, 0),
            states[pin] is State.READY and pin in defaults,
            problems.get(pin, ""),
        )
        for pin in sorted(states, key=lambda pin: (order(*pin[:2]), pin.fingerprint))
    ]


def _in_repository(control: ModelControl, place: Place) -> tuple[Pin, State, str]:
    """Returns what lies at a place, as it stands where it is not loaded."""
    version, seen = control.versions.get(place), control.seen.get(place)
    found = seen or (version.found if version else None)
    assert found is not None
    pin = Pin(place.name, place.version, found.fingerprint)
    if version is not None and version.found == found and version.problem:
        return pin, State.BROKEN, version.problem
    return pin, State.LOADING if control.follows else State.AVAILABLE, ""


def _defaults(catalogue: Catalogue, names: Iterable[str]) -> set[Pin]:
    defaults = set()
    for name in names:
        try:
            defaults.add(catalogue.find(name, "").pin)
        except (errors.ModelUnknown, errors.ArgumentInvalid):
            # Of this one a session has to name its version, or gets none.
            continue
    return defaults
