"""A session under test: its frames, and what the plain loop makes of them."""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from numpy.typing import NDArray

from tickcell.conformance.caller import PATIENCE_S, Caller, Path, Refused
from tickcell.conformance.course import Course
from tickcell.conformance.expectation import Unmet, hold

# Small, so that steps leave it soon.
WINDOW = 8


class Subject:
    """A session, fed with some series of a course.

    Attributes:
      session: as it was created.
      frames: `[N, B, F]`.
      outputs: `[N, B, O]`, those of the loop.
      next_step: of the first frame that it has not been given yet.
    """

    def __init__(self, caller: Caller, course: Course, *, series_count: int = 1, **fields: Any):
        self.caller = caller
        self.session = caller.create(
            **{
                "session": f"subject-{uuid.uuid4()}",
                "model": course.model.name,
                "model_version": course.model.version,
                "series_count": series_count,
                "window_step_count": WINDOW,
                **fields,
            }
        )
        self.id = self.session.id
        longest = self.session.max_step_count
        if 0 < longest < min(WINDOW, self.session.window_step_count):
            pytest.skip(f"needs {WINDOW} steps in a request; the server allows {longest}")
        self.generation = self.session.generation
        self.frames, self.outputs = course.series(series_count)
        self.next_step = 0

    @property
    def now(self) -> Any:
        """The session as the server shows it."""
        return self.caller.get(self.id)

    def wait_until_ended(self) -> None:
        """Waits until its time to live is over."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                self.caller.get(self.id)
            except Refused:
                return
        idle_s = self.session.idle_ttl_duration.ToNanoseconds() / 1e9
        got = f"a session that lives {PATIENCE_S:g} s after its last step"
        raise Unmet(got, f"its end after {idle_s:g} s of the store's clock", 8)

    def request(
        self,
        path: Path,
        step: int,
        count: int = 1,
        *,
        frames: NDArray[np.float32] | None = None,
        **fields: Any,
    ) -> Message:
        """Returns a request for some steps: right in all that the arguments do not change."""
        if frames is None:
            frames = self.frames[step : step + count]
        return path.request_class(
            **{
                "session": self.id,
                "generation": self.generation,
                "first_step": step,
                "step_count": count,
                "frames": frames.ravel().tolist(),
                **fields,
            }
        )

    def advance(self, path: Path, count: int = 1) -> None:
        """Gives it its next frames in one request, and holds the answer to the loop."""
        self.repeat(path, self.next_step, count)
        self.next_step += count

    def repeat(self, path: Path, first_step: int, count: int = 1) -> None:
        """Sends some steps, and holds the answer to the loop."""
        self.hold_answer(
            path.send(encoded(self.request(path, first_step, count))), first_step, count
        )

    def hold_answer(self, answer: Any, first_step: int, count: int = 1) -> None:
        """Holds an answer to the loop, bit for bit, and to the history of its frames."""
        named = (answer.session, answer.generation, answer.first_step, answer.step_count)
        asked = (self.id, self.generation, first_step, count)
        hold(named, asked, "session, generation, first_step and step_count")
        got = np.array(answer.outputs, np.float32)
        expected = self.outputs[first_step : first_step + count].ravel()
        hold(len(got), len(expected), "number of outputs")
        if got.tobytes() != expected.tobytes():
            place = int(np.flatnonzero(got.view(np.uint32) != expected.view(np.uint32))[0])
            step = first_step + place * count // len(got)
            raise Unmet(f"the output {got[place]!r} of step {step}", repr(expected[place]))
        hold(answer.history, self.history_before(first_step + count), "history", 3)

    def history_before(self, step: int) -> bytes:
        """Returns the history of its frames before a step, as the contract defines it."""
        history = bytes(8)
        for frame in self.frames[:step]:
            encoded = frame.astype("<f4").tobytes()
            history = hashlib.blake2b(history + encoded, digest_size=8).digest()
        return history


class Scene:
    """What each refusal is tried on: a subject in the midst of its life, and a bystander.

    Attributes:
      path: how steps are sent, and on a stream the one that the two sessions share.
      subject: the session that the refused request names.
      bystander: another session, which nothing is to happen to.
    """

    def __init__(self, path: Path, subject: Subject, bystander: Subject) -> None:
        self.path = path
        self.subject = subject
        self.bystander = bystander
        # The subject last: what follows on the stream is then what a server could foresee.
        for session in (bystander, subject):
            for _ in range(WINDOW + WINDOW // 2):
                session.advance(path)

    def refused(self, reason: str, request: Message | bytes) -> Refused:
        """Sends a request that must be refused, and must not have changed anything.

        The session is as it was, its next right step has the loop's output, and so has
        the bystander's.
        """
        before = self.subject.now
        refusal = refused(self.path, reason, request)
        hold(self.subject.now, before, "after the refusal", 4)
        self.bystander.advance(self.path)
        self.subject.advance(self.path)
        return refusal


def refused(path: Path, reason: str, request: Message | bytes) -> Refused:
    """Sends a request that must be refused for this reason; returns the refusal."""
    try:
        answer = path.send(request if isinstance(request, bytes) else encoded(request))
    except Refused as refusal:
        refusal.hold(reason)
        return refusal
    raise Unmet(answer, f"the refusal {reason}")


def refused_by_grpc(path: Path, overlong: bytes) -> None:
    """Sends a message that is too long for gRPC, which ends the call for it."""
    with pytest.raises(grpc.RpcError) as caught:
        path.send(overlong)
    # Of some thousands of such streams, gRPC forgets one: the server's end is through with
    # it, and the caller never hears of it before its deadline.
    ends = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert caught.value.code() in ends


def encoded(message: Message) -> bytes:
    """Returns a message's bytes."""
    return message.SerializeToString()
