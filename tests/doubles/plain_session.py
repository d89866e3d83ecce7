"""The session contract in plain Python, against which `rules` is held.

Written from the contract, not from the code: whole lists instead of a window,
tuples instead of digests, an answer instead of a decision. One session id, one
series, one sensor; a cell that counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import struct

Answer = tuple[object, ...]
# So many generations are known by how they ended; what is older ended before the oldest of them.
REMEMBERED = 8
# A reading; in a tuple of its own, the series begins anew before it.
Frame = float | tuple[float]


def reading_of(frame: Frame) -> float:
    """Returns a frame's reading."""
    return frame[0] if isinstance(frame, tuple) else frame


def history_of(frames: tuple[Frame, ...]) -> bytes:
    """Returns what the contract calls the history of these frames."""
    history = bytes(8)
    for frame in frames:
        said = struct.pack("<f", reading_of(frame)) + b"\1" * isinstance(frame, tuple)
        history = hashlib.blake2b(history + said, digest_size=8).digest()
    return history


# What each version of the model adds to the outputs of the first.
ADDS = {"1": 0.0, "2": 0.5, "3": 0.25}
# A version with other state tensors, so that a state must be burnt in.
OTHER = "3"


def counted(
    frames: tuple[Frame, ...], count: int, start: int = 0, version: str = "1"
) -> tuple[tuple[float, ...], int]:
    """Returns what a cell makes of frames that counts.

    Args:
      frames: what it is given.
      count: its state before them.
      start: its state where a series begins anew.
      version: of the model.

    Returns:
      The outputs, and the state after them.
    """
    outputs = []
    for frame in frames:
        if isinstance(frame, tuple):
            count = start
        outputs.append(reading_of(frame) + 1000 * count + ADDS[version])
        count += 1
    return tuple(outputs), count


@dataclasses.dataclass(frozen=True)
class Life:
    """One generation: every frame applied in it, in order, behind those of its session's origin.

    The window has no step before `kept_from`; `outputs` has those of all frames, and `count` is
    the state behind them.
    """

    generation: int
    frames: tuple[Frame, ...] = ()
    kept_from: int = 0
    outputs: tuple[float, ...] = ()
    count: int = 0
    reset_request: str = ""
    claim_request: str = ""
    migrate_request: str = ""


@dataclasses.dataclass(frozen=True)
class PlainSession:
    """A session id over time. `life` is None before it was ever created.

    `follows` is the request of the life before the one that was begun, and `keeps_window`
    says whether a life that has ended left its window. `ends` has the generations before the
    current one, and how each ended; `is_claimed` says whether one of them was claimed since
    the session was last reset or begun. `origin` has the frames that led to the state with
    which it was created.
    """

    window: int
    most: int
    ttl: int
    retention: int
    life: Life | None = None
    create_request: str = ""
    renewed: int = 0
    deleted: int | None = None
    follows: str = ""
    keeps_window: bool = False
    ends: tuple[tuple[int, str], ...] = ()
    is_claimed: bool = False
    moved_by: str = ""
    origin: tuple[Frame, ...] = ()
    is_fork: bool = False
    start: int = 0
    version: str = "1"

    def end_at(self, now: int) -> str | None:
        """How the session ended: "unknown", "deleted", "expired"; None if it lives."""
        if self.life is None:
            return "unknown"
        ended = self.deleted if self.deleted is not None else self.renewed + self.ttl
        if now < ended:
            return None
        if now >= ended + self.retention:
            return "unknown"
        if self.moved_by:
            return "moved"
        return "deleted" if self.deleted is not None else "expired"

    @property
    def lived(self) -> Life:
        """The life that there is, or was."""
        assert self.life is not None
        return self.life

    def create(self, request: str, generation: int, now: int) -> tuple[PlainSession, Answer]:
        end = self.end_at(now)
        if end != "unknown" and request == self.create_request:
            return self._begun(end)
        if end is None:
            return self, ("exists",)
        new = self._anew(request, generation, now, follows="")
        return new, ("ok", *new.view())

    def fork(
        self, request: str, source: tuple[Frame, ...], generation: int, now: int
    ) -> tuple[PlainSession, Answer]:
        """Creates it from another session, to which these frames were given."""
        new, answer = self.create(request, generation, now)
        if new is self:
            return self, answer
        outputs, count = counted(source, 0)
        new = dataclasses.replace(
            new,
            life=Life(generation, source, len(source), outputs, count),
            origin=source,
            is_fork=True,
            start=count,
        )
        return new, ("ok", *new.view())

    def brought(
        self, request: str, source: tuple[Frame, ...], kept: int, generation: int, now: int
    ) -> tuple[PlainSession, Answer]:
        """Creates it from the export of a session with these frames, and so much of its window."""
        new, answer = self.create(request, generation, now)
        if new is self:
            return self, answer
        kept = min(kept, self.window)
        life = Life(generation, source, len(source) - kept, *counted(source, 0))
        new = dataclasses.replace(new, life=life)
        return new, ("ok", *new.view())

    def move(self, generation: int, request: str, now: int) -> tuple[PlainSession, Answer]:
        """Exports and ends it."""
        end = self.end_at(now)
        same = (self.moved_by, self.life and self.life.generation) == (request, generation)
        if end is not None and not (end == "moved" and same):
            return self, (end,)
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        exported = ("ok", len(self.lived.frames), history_of(self.lived.frames))
        if end == "moved":
            return self, exported
        new = dataclasses.replace(self, deleted=now, moved_by=request, keeps_window=True)
        return new, exported

    def forked(self, generation: int, step: int | None, now: int) -> tuple[PlainSession, Answer]:
        """Tells what a fork of it begins with."""
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        frames = self.lived.frames
        if step is not None and step < 0:
            return self, ("argument",)
        if step is not None and step > len(frames):
            return self, ("gap", len(frames))
        if step is not None and step < len(frames):
            return self, ("stale",)
        return self, ("ok", len(frames), history_of(frames), float(self.lived.count))

    def preview(
        self, generation: int, step: int, branches: tuple[tuple[Frame, ...], ...], now: int
    ) -> tuple[PlainSession, Answer]:
        """Tells what it would answer to frames; those of all branches are of one length."""
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        applied = len(self.lived.frames)
        if not 1 <= len(branches[0]) <= self.most:
            return self, ("shape",)
        if step != applied:
            return self, ("gap", applied)
        if not all(math.isfinite(reading_of(frame)) for branch in branches for frame in branch):
            return self, ("not finite",)
        outputs: tuple[float, ...] = ()
        for branch in branches:
            outputs += counted(branch, self.lived.count, self.start, self.version)[0]
        return self, ("ok", outputs)

    def begin(self, request: str, generation: int, now: int) -> tuple[PlainSession, Answer]:
        """Begins a life, and ends one that is alive."""
        end = self.end_at(now)
        if end != "unknown" and request == self.create_request:
            return self._begun(end)
        if end != "unknown" and request == self.follows:
            return self, (self.superseded(generation),)
        follows = "" if end == "unknown" else self.create_request
        new = self._anew(request, generation, now, follows)
        if end is None:
            new = dataclasses.replace(new, ends=self.ended("begun"))
        return new, ("ok", *new.view())

    def _begun(self, end: str | None) -> tuple[PlainSession, Answer]:
        """Answers whoever has begun this life, and asks for it again."""
        if end is None and self.is_claimed:
            return self, ("claimed",)
        return self, ("ok", *self.view()) if end is None else (end,)

    def ended(self, how: str) -> tuple[tuple[int, str], ...]:
        """The generations that are over, once this one has ended so."""
        return (*self.ends, (self.lived.generation, how))

    def superseded(self, generation: int) -> str:
        """The answer to who means a generation that is not this one."""
        known = self.ends[-REMEMBERED:]
        how = dict(known).get(generation, known[0][1] if len(known) == REMEMBERED else "")
        return "claimed" if how == "claimed" else "restarted"

    def _anew(self, request: str, generation: int, now: int, follows: str) -> PlainSession:
        return dataclasses.replace(
            self,
            life=Life(generation),
            create_request=request,
            renewed=now,
            deleted=None,
            follows=follows,
            keeps_window=False,
            ends=(),
            is_claimed=False,
            moved_by="",
            origin=(),
            is_fork=False,
            start=0,
            version="1",
        )

    def step(
        self,
        generation: int | None,
        first: int | None,
        frames: tuple[Frame, ...],
        before: tuple[Frame, ...] | None,
        now: int,
    ) -> tuple[PlainSession, Answer]:
        """Applies frames, if those `before` them are those applied; None for any."""
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        return self._stepped(generation, first, frames, before, now)

    def recall(
        self, generation: int, first: int, frames: tuple[Frame, ...], now: int
    ) -> tuple[PlainSession, Answer]:
        """Answers from the window, of a life that has ended too; nothing is applied."""
        if self.end_at(now) == "unknown":
            return self, ("unknown",)
        left = self
        if self.deleted is not None and not self.keeps_window:
            # All that is left of its frames is how many there were.
            left = dataclasses.replace(self, window=0)
        new, answer = left._stepped(generation, first, frames, None, now)
        return self, answer if new is left else ("new",)

    def _stepped(
        self,
        generation: int | None,
        first: int | None,
        frames: tuple[Frame, ...],
        before: tuple[Frame, ...] | None,
        now: int,
    ) -> tuple[PlainSession, Answer]:
        life = self.lived
        if generation is None and self.is_claimed:
            return self, ("claimed",)
        if generation is not None and generation != life.generation:
            return self, (self.superseded(generation),)
        if not 1 <= len(frames) <= self.most:
            return self, ("shape",)
        if not all(math.isfinite(reading_of(frame)) for frame in frames):
            return self, ("not finite",)
        applied = len(life.frames)
        if first is None:
            first = applied
        if first > applied:
            return self, ("gap", applied)
        if first < max(life.kept_from, applied - self.window):
            return self, ("stale",)
        if before is not None and before != life.frames[:first]:
            return self, ("conflict",)
        for index, frame in enumerate(frames):
            if first + index < applied and life.frames[first + index] != frame:
                return self, ("conflict",)
        fresh = frames[applied - first :]
        made, count = counted(fresh, life.count, self.start, self.version)
        outputs = (life.outputs + made)[first : first + len(frames)]
        answer = ("ok", first, outputs, history_of(life.frames[:first] + frames))
        if not fresh:
            return self, answer
        grown = dataclasses.replace(
            life, frames=life.frames + fresh, outputs=life.outputs + made, count=count
        )
        return dataclasses.replace(self, life=grown, renewed=now), answer

    def touch(self, generation: int, now: int) -> tuple[PlainSession, Answer]:
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        return dataclasses.replace(self, renewed=now), ("ok", *self.view())

    def reset(
        self, generation: int, request: str, new_generation: int, now: int
    ) -> tuple[PlainSession, Answer]:
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        if request == self.lived.reset_request:
            return self, ("ok", *self.view())
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        new = dataclasses.replace(
            self,
            life=Life(
                new_generation,
                self.origin,
                len(self.origin),
                counted(self.origin, 0)[0],
                self.start,
                reset_request=request,
            ),
            renewed=now,
            ends=self.ended("reset"),
            is_claimed=False,
        )
        return new, ("ok", *new.view())

    def claim(
        self, generation: int | None, request: str, new_generation: int, now: int
    ) -> tuple[PlainSession, Answer]:
        """Hands the session over; a generation of None is whichever lives."""
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        if request == self.lived.claim_request:
            return self, ("ok", *self.view())
        if generation not in (None, self.lived.generation):
            return self, (self.superseded(generation or 0),)
        new = dataclasses.replace(
            self,
            life=self._handed_over(new_generation, claim_request=request),
            renewed=now,
            ends=self.ended("claimed"),
            is_claimed=True,
        )
        return new, ("ok", *new.view())

    def migrate(
        self,
        generation: int,
        version: str,
        burnt_in: int | None,
        request: str,
        new_generation: int,
        now: int,
    ) -> tuple[PlainSession, Answer]:
        """Goes on with another version, whose state is this count, or the own where it is None."""
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        if request == self.lived.migrate_request:
            return self, ("ok", *self.view())
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        if version == self.version:
            return self, ("argument",)
        is_alike = OTHER not in (version, self.version)
        if burnt_in is None and not is_alike:
            return self, ("migration",)
        life = self._handed_over(new_generation, migrate_request=request)
        if burnt_in is not None:
            life = dataclasses.replace(life, count=burnt_in)
        new = dataclasses.replace(
            self, life=life, renewed=now, ends=self.ended("migrated"), version=version
        )
        if not is_alike:
            new = dataclasses.replace(new, origin=(), is_fork=False, start=0)
        return new, ("ok", *new.view())

    def _handed_over(
        self, new_generation: int, *, claim_request: str = "", migrate_request: str = ""
    ) -> Life:
        """The life that goes on under another generation."""
        return dataclasses.replace(
            self.lived,
            generation=new_generation,
            reset_request="",
            claim_request=claim_request,
            migrate_request=migrate_request,
        )

    def outputs(
        self, generation: int, first: int | None, count: int, now: int
    ) -> tuple[PlainSession, Answer]:
        """Reads outputs again; a first of None is the oldest that is kept, a count of 0 all."""
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        if not 0 <= count <= self.most:
            return self, ("argument",)
        frames = self.lived.frames
        oldest = max(self.lived.kept_from, len(frames) - self.window)
        first = oldest if first is None else first
        if max(first, first + count) > len(frames):
            return self, ("gap", len(frames))
        if first < oldest:
            return self, ("stale",)
        end_step = first + (count or min(self.most, len(frames) - first))
        outputs = self.lived.outputs[first:end_step]
        return self, ("ok", first, outputs, history_of(frames[:end_step]))

    def delete(self, generation: int, now: int) -> tuple[PlainSession, Answer]:
        end = self.end_at(now)
        if end == "deleted" and generation == self.lived.generation:
            return self, ("ok",)
        if end is not None:
            return self, (end,)
        if generation != self.lived.generation:
            return self, (self.superseded(generation),)
        return dataclasses.replace(self, deleted=now), ("ok",)

    def end(self, generation: int, now: int) -> tuple[PlainSession, Answer]:
        """Deletes a life, and leaves its window."""
        new, answer = self.delete(generation, now)
        return (self if new is self else dataclasses.replace(new, keeps_window=True)), answer

    def view(self) -> tuple[int, int]:
        return self.lived.generation, len(self.lived.frames)
