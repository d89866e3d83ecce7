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


def history_of(frames: tuple[float, ...]) -> bytes:
    """Returns what the contract calls the history of these frames."""
    history = bytes(8)
    for frame in frames:
        history = hashlib.blake2b(history + struct.pack("<f", frame), digest_size=8).digest()
    return history


@dataclasses.dataclass(frozen=True)
class Life:
    """One generation: every frame applied in it, in order."""

    generation: int
    frames: tuple[float, ...] = ()
    reset_request: str = ""
    claim_request: str = ""


@dataclasses.dataclass(frozen=True)
class PlainSession:
    """A session id over time. `life` is None before it was ever created.

    `follows` is the request of the life before the one that was begun, and `keeps_window`
    says whether a life that has ended left its window. `ends` has the generations before the
    current one, and how each ended; `is_claimed` says whether one of them was claimed since
    the session was last reset or begun.
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

    def end_at(self, now: int) -> str | None:
        """How the session ended: "unknown", "deleted", "expired"; None if it lives."""
        if self.life is None:
            return "unknown"
        ended = self.deleted if self.deleted is not None else self.renewed + self.ttl
        if now < ended:
            return None
        if now >= ended + self.retention:
            return "unknown"
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
        return "claimed" if (generation, "claimed") in self.ends else "restarted"

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
        )

    def step(
        self,
        generation: int | None,
        first: int | None,
        frames: tuple[float, ...],
        before: tuple[float, ...] | None,
        now: int,
    ) -> tuple[PlainSession, Answer]:
        """Applies frames, if those `before` them are those applied; None for any."""
        end = self.end_at(now)
        if end is not None:
            return self, (end,)
        return self._stepped(generation, first, frames, before, now)

    def recall(
        self, generation: int, first: int, frames: tuple[float, ...], now: int
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
        frames: tuple[float, ...],
        before: tuple[float, ...] | None,
        now: int,
    ) -> tuple[PlainSession, Answer]:
        life = self.lived
        if generation is None and self.is_claimed:
            return self, ("claimed",)
        if generation is not None and generation != life.generation:
            return self, (self.superseded(generation),)
        if not 1 <= len(frames) <= self.most:
            return self, ("shape",)
        if not all(map(math.isfinite, frames)):
            return self, ("not finite",)
        applied = len(life.frames)
        if first is None:
            first = applied
        if first > applied:
            return self, ("gap", applied)
        if first < max(0, applied - self.window):
            return self, ("stale",)
        if before is not None and before != life.frames[:first]:
            return self, ("conflict",)
        for index, frame in enumerate(frames):
            if first + index < applied and life.frames[first + index] != frame:
                return self, ("conflict",)
        outputs = tuple(frame + 1000 * (first + index) for index, frame in enumerate(frames))
        fresh = frames[applied - first :]
        answer = ("ok", first, outputs, history_of(life.frames[:first] + frames))
        if not fresh:
            return self, answer
        grown = dataclasses.replace(life, frames=life.frames + fresh)
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
            life=Life(new_generation, (), request),
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
            life=Life(new_generation, self.lived.frames, claim_request=request),
            renewed=now,
            ends=self.ended("claimed"),
            is_claimed=True,
        )
        return new, ("ok", *new.view())

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
        oldest = max(0, len(frames) - self.window)
        first = oldest if first is None else first
        if max(first, first + count) > len(frames):
            return self, ("gap", len(frames))
        if first < oldest:
            return self, ("stale",)
        end_step = first + (count or min(self.most, len(frames) - first))
        outputs = tuple(frames[step] + 1000 * step for step in range(first, end_step))
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
