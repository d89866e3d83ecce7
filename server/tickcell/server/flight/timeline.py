"""How the segments of a session join: which follow one another, and what is missing between.

They may come from the files of several servers, in any order. Within a generation they are
ordered by their steps, since no two machines have one clock.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tickcell.server.flight.segments import Ended, Segment
from tickcell.v1 import flight_recording_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tickcell.server.store.contract import Key

# What leaves the state as it was.
_KEEPS_STATE = {pb.FLIGHT_EVENT_KIND_FOUND, pb.FLIGHT_EVENT_KIND_CLAIMED}


@dataclasses.dataclass(frozen=True)
class Missing:
    """Steps that were applied, and that no file has.

    Attributes:
      key: the session's.
      generation: of the session.
      first_step, next_step: from the one up to, and without, the other.
      dropped: how many of them a recorder has counted as dropped. It was killed before it
        could write the others, or another server that records nothing applied them.
    """

    key: Key
    generation: int
    first_step: int
    next_step: int
    dropped: int

    @property
    def step_count(self) -> int:
        """How many they are."""
        return self.next_step - self.first_step


@dataclasses.dataclass(frozen=True)
class Unknown:
    """The steps of a generation before the first that a file has; nothing says how many.

    Attributes:
      key: the session's.
      generation: of the session.
      next_step: the first that a file has.
    """

    key: Key
    generation: int
    next_step: int


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Steps that were applied twice in a generation: the store was put back in between.

    Attributes:
      key: the session's.
      generation: of the session.
      first_step, next_step: from the one up to, and without, the other.
    """

    key: Key
    generation: int
    first_step: int
    next_step: int


class Timeline:
    """All that files say of one session.

    Attributes:
      segments: in order: those of a generation by their steps.
      unknown: of which generations the beginning is in no file.
      gaps: what is missing between.
      repeats: what is there twice.
    """

    def __init__(self, key: Key, segments: Iterable[Segment], ends: Iterable[Ended]) -> None:
        self.unknown: list[Unknown] = []
        self.gaps: list[Missing] = []
        self.repeats: list[Repeated] = []
        self._key = key
        self._reached: dict[int, int] = {}
        generations: dict[int, list[Segment]] = {}
        for segment in segments:
            generations.setdefault(segment.generation, []).append(segment)
        for of_one in generations.values():
            # What a segment begins with comes before what others begin with at its end.
            of_one.sort(key=lambda each: (each.start.step, each.end.step))
            self._join(of_one)
        self.segments = [each for of_one in generations.values() for each in of_one]
        for segment in self.segments:
            self._expect(*segment.previous, segment.dropped)
        for end in ends:
            self._expect(end.generation, end.next_step, end.dropped)

    def _join(self, segments: list[Segment]) -> None:
        """Goes through the segments of one generation."""
        generation, reached = segments[0].generation, segments[0].start.step
        if segments[0].kind == pb.FLIGHT_EVENT_KIND_FOUND and reached > 0:
            self.unknown.append(Unknown(self._key, generation, reached))
        for segment in segments:
            first, following = segment.start.step, segment.end.step
            if first > reached:
                self._miss(generation, reached, first, segment.dropped)
            elif first < min(reached, following):
                repeated = Repeated(self._key, generation, first, min(reached, following))
                self.repeats.append(repeated)
            reached = max(reached, following)
        self._reached[generation] = reached

    def _expect(self, generation: int, next_step: int, dropped: int) -> None:
        """Compares how far a generation went with how far it is there."""
        reached = self._reached.get(generation)
        if reached is not None and reached < next_step:
            self._miss(generation, reached, next_step, dropped)
            self._reached[generation] = next_step

    def _miss(self, generation: int, first: int, following: int, dropped: int) -> None:
        count = min(dropped, following - first)
        self.gaps.append(Missing(self._key, generation, first, following, count))


def timelines(found: Iterable[Segment | Ended]) -> Iterator[Timeline]:
    """Yields the timeline of each session, by owner and name."""
    segments: dict[Key, list[Segment]] = {}
    ends: dict[Key, list[Ended]] = {}
    for each in found:
        if isinstance(each, Segment):
            segments.setdefault(each.key, []).append(each)
        else:
            ends.setdefault(each.key, []).append(each)
    _compare_states(segments)
    for key in sorted(segments):
        yield Timeline(key, segments[key], ends.get(key, ()))


def _compare_states(segments: dict[Key, list[Segment]]) -> None:
    """Compares the states that were found with those that others end with at the same step.

    That is where a session goes on after a restart, or on another server.
    """
    for of_one in segments.values():
        ends = {
            (each.end.step, each.end.history): each
            for each in of_one
            if each.end.state and each.step_count
        }
        for segment in of_one:
            before = ends.get((segment.start.step, segment.start.history))
            if before is None or before is segment or segment.kind not in _KEEPS_STATE:
                continue
            if before.model == segment.model and before.end.state != segment.start.state:
                segment.differs(
                    f"begins at step {segment.start.step} with other bits of the state than "
                    f"{before.path.name} ends with"
                )
