"""Sequences of the Open Inference Protocol, where the server serves it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from tickcell.conformance.caller import Caller
from tickcell.conformance.course import Course
from tickcell.conformance.expectation import Unmet

if TYPE_CHECKING:
    from tickcell.conformance.peer import Peer, PeerStream

pytestmark = pytest.mark.contract("docs/triton.md, Sequences")

AGAIN = pytest.mark.contract("docs/triton.md, Safe to send again")
EXTRA = "needs tritonclient, for the messages; pip install 'tickcell[triton]'"
NO_ID = "must specify a non-zero or non-empty correlation ID"


class Sequence:
    """A sequence, fed with a series of a course.

    Attributes:
      id: its correlation id.
      frames: `[N, F]`.
    """

    def __init__(
        self, caller: Caller, path: Peer | PeerStream, peer: Peer, course: Course, metadata: Any
    ) -> None:
        self._caller, self._path, self._peer = caller, path, peer
        self._name = course.model.name
        self._input = metadata.inputs[0].name
        # The axes behind batch and time.
        self._axes = [each for each in metadata.inputs[0].shape if each > 0] or [-1]
        frames, outputs = course.series(1)
        self.frames, self._outputs = frames[:, 0], outputs[:, 0]
        self.id: str | int = f"conform-{uuid.uuid4()}"

    def send(self, step: int, count: int = 1, **options: Any) -> None:
        """Sends some steps, and holds the answer to the loop, bit for bit."""
        from tickcell.conformance import peer

        try:
            answer = self.exchange(self.request(step, count, **options))
        except peer.Refused as refusal:
            raise Unmet(f"the refusal {str(refusal)!r}", "an answer") from refusal
        got = b"".join(answer.raw_output_contents)
        expected = self._outputs[step : step + count].astype("<f4").tobytes()
        if len(answer.raw_output_contents) > 1:
            pytest.skip("needs a model of one output, whose numbers lie in the row's order")
        if got != expected:
            raise Unmet(f"the outputs {peer.outputs(answer)}", self._outputs[step : step + count])

    def exchange(self, message: Any) -> Any:
        """Sends a request; returns the answer, or raises the peer's Refused."""
        self._caller.sent = message
        if self._path is self._peer:
            return self._peer.call("ModelInfer", message)
        return self._path.exchange(message)  # type: ignore[union-attr]  # the other of two

    def request(
        self, step: int, count: int = 1, frames: NDArray[np.float32] | None = None, **options: Any
    ) -> Any:
        """Returns a request for some steps."""
        from tickcell.conformance import peer

        readings = self.frames[step : step + count] if frames is None else frames
        time = [] if count == 1 else [count]
        options = {"sequence": self.id, **options}
        if options.get("life"):
            options["step"] = step
        return peer.request(
            readings=readings.reshape(1, *time, *self._axes),
            model=self._name,
            input_name=self._input,
            **options,
        )

    def refused(self, words: str, message: Any) -> None:
        """Sends a request that must be refused, in some words."""
        from tickcell.conformance import peer

        try:
            answer = self.exchange(message)
        except peer.Refused as refusal:
            text = str(refusal)
            if words not in text:
                raise Unmet(f"the refusal {text!r}", f"a refusal with {words!r}") from refusal
            return
        raise Unmet(answer, f"a refusal with {words!r}")

    def end(self) -> None:
        """Ends it, if it is alive."""
        from tickcell.conformance import peer

        try:
            self._peer.call("ModelInfer", self.request(0, end=True))
        except peer.Refused as refusal:
            if peer.MUST_START not in str(refusal):
                raise


@pytest.fixture(scope="module")
def peer(caller: Caller) -> Peer:
    """A peer on the caller's connection."""
    pytest.importorskip("tritonclient.grpc.service_pb2", reason=EXTRA)
    from tickcell.conformance.peer import Peer, Refused

    opened = Peer(channel=caller.channel)
    try:
        opened.ask("ServerLive")
    except Refused as refusal:
        if refusal.code != grpc.StatusCode.UNIMPLEMENTED.name:
            raise
        pytest.skip("needs the Open Inference Protocol; the server does not serve it")
    return opened


@pytest.fixture(scope="module")
def metadata(peer: Peer, course: Course) -> Any:
    """What the server says of the model's inputs and outputs."""
    from tickcell.conformance.peer import Refused

    try:
        found = peer.ask("ModelMetadata", name=course.model.name)
    except Refused as refusal:
        pytest.skip(f"needs a model that the protocol can name: {refusal}")
    if len(found.inputs) != 1:
        pytest.skip("needs a model of one input")
    return found


@pytest.fixture(params=["unary", "stream"])
def way(request: pytest.FixtureRequest, peer: Peer) -> Iterator[Peer | PeerStream]:
    """Each of the two ways to infer."""
    from tickcell.conformance.peer import PeerStream

    if request.param == "unary":
        yield peer
        return
    with PeerStream(peer) as stream:
        yield stream


@pytest.fixture
def sequence(
    caller: Caller, way: Peer | PeerStream, peer: Peer, course: Course, metadata: Any
) -> Iterator[Sequence]:
    """A sequence that has not started."""
    begun = Sequence(caller, way, peer, course, metadata)
    yield begun
    begun.end()


@pytest.mark.contract("docs/triton.md")
def test_server_is_live_and_ready_and_has_sequences(peer: Peer, course: Course) -> None:
    assert peer.ask("ServerLive").live
    assert peer.ask("ServerReady").ready
    assert "sequence" in peer.ask("ServerMetadata").extensions
    assert peer.ask("ModelReady", name=course.model.name).ready


@pytest.mark.parametrize("nothing", [None, 0, ""], ids=["none", "zero", "empty"])
def test_request_without_a_correlation_id_is_refused(
    sequence: Sequence, nothing: int | str | None
) -> None:
    sequence.refused(NO_ID, sequence.request(0, start=True, sequence=nothing))


def test_sequence_is_started_advanced_and_ended(sequence: Sequence) -> None:
    sequence.send(0, start=True)
    for step in range(1, 20):
        sequence.send(step)
    sequence.send(20, end=True)
    sequence.refused("must specify the START flag", sequence.request(21))


def test_several_frames_in_a_request_are_several_steps(sequence: Sequence) -> None:
    sequence.send(0, 3, start=True)
    sequence.send(3, 5)
    sequence.send(8)


def test_sequence_that_was_never_started_is_refused(sequence: Sequence) -> None:
    sequence.refused("must specify the START flag", sequence.request(0))
    sequence.refused("must specify the START flag", sequence.request(0, end=True))


def test_start_begins_anew_on_a_live_sequence_and_on_an_ended_one(sequence: Sequence) -> None:
    for ends in (False, True, False):
        sequence.send(0, start=True)
        sequence.send(1, end=ends)


def test_start_and_end_in_one_request_is_one_step_and_the_end(sequence: Sequence) -> None:
    sequence.send(0, start=True, end=True)
    sequence.refused("must specify the START flag", sequence.request(1))


def test_refused_frames_change_nothing(sequence: Sequence) -> None:
    sequence.send(0, start=True)
    wrong = sequence.request(1)
    wrong.inputs[0].shape[-1] += 1
    sequence.refused("", wrong)
    nothing = np.full_like(sequence.frames[1:2], np.nan)
    sequence.refused("", sequence.request(1, frames=nothing))
    sequence.send(1)


@AGAIN
def test_requests_that_are_sent_again_are_applied_once(sequence: Sequence) -> None:
    life = str(uuid.uuid4())
    for _ in range(3):
        sequence.send(0, start=True, life=life)
    for _ in range(3):
        sequence.send(1, 2, life=life)
    sequence.send(2, 2, life=life)
    for _ in range(3):
        sequence.send(4, end=True, life=life)


@AGAIN
def test_late_request_of_a_life_never_touches_the_next(sequence: Sequence) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    sequence.send(0, start=True, life=first)
    sequence.send(0, start=True, life=second)
    for step in (0, 1, 2):
        for end in (False, True):
            late = sequence.request(step, life=first, end=end)
            sequence.refused("SESSION_RESTARTED", late)
    sequence.send(1, life=second)


@AGAIN
def test_step_with_another_frame_is_refused(sequence: Sequence) -> None:
    life = str(uuid.uuid4())
    sequence.send(0, start=True, life=life)
    sequence.send(1, life=life)
    other = sequence.frames[1:2].copy()
    other[0, 0] = -other[0, 0] or 1.0
    sequence.refused("applied with another frame", sequence.request(1, frames=other, life=life))
    sequence.send(2, life=life)
