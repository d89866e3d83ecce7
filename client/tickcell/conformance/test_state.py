"""A session's state as a value: claims, and outputs that are read again."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from tickcell.conformance.caller import Caller, Path, UnaryPath, refused_for
from tickcell.conformance.subject import WINDOW, Subject, encoded, refused
from tickcell.v1 import session_service_pb2 as pb

pytestmark = pytest.mark.contract(11)


@pytest.fixture
def advanced(path: Path, subject: Subject) -> Subject:
    """A session with more steps than its window holds."""
    for _ in range(WINDOW + 3):
        subject.advance(path)
    return subject


class TestClaim:
    def test_session_goes_on_under_a_new_generation(self, path: Path, advanced: Subject) -> None:
        before, old = advanced.now, advanced.generation
        claimed = advanced.caller.claim(advanced.id, old)
        advanced.generation = claimed.generation
        assert claimed.generation != old
        for shown in (before, claimed):
            for field in ("generation", "renew_time", "expire_time"):
                shown.ClearField(field)
        assert claimed == before
        # Its window too: a step whose answer was lost is answered to the next one.
        advanced.repeat(path, advanced.next_step - 2, 2)
        advanced.advance(path, 3)

    @pytest.mark.parametrize("ahead", [-WINDOW - 1, -1, 0, 1])
    def test_steps_of_the_generation_before_are_refused(
        self, path: Path, advanced: Subject, ahead: int
    ) -> None:
        late = advanced.request(path, advanced.next_step + ahead)
        advanced.generation = advanced.caller.claim(advanced.id, advanced.generation).generation
        refusal = refused(path, "SESSION_CLAIMED", late)
        assert int(refusal.metadata["generation"]) == advanced.generation
        assert int(refusal.metadata["next_step"]) == advanced.next_step
        advanced.advance(path)

    def test_whatever_the_generation_before_asks_is_refused(
        self, advanced: Subject, caller: Caller
    ) -> None:
        old = advanced.generation
        now = caller.claim(advanced.id, old)
        for ask in (caller.touch, caller.delete, caller.claim, caller.outputs):
            with refused_for("SESSION_CLAIMED") as metadata:
                ask(advanced.id, old)
            assert int(metadata["got_generation"]) == old
        with refused_for("SESSION_CLAIMED"):
            caller.reset(advanced.id, old, str(uuid.uuid4()))
        assert advanced.now == now

    def test_of_two_claims_of_one_generation_the_second_is_refused(
        self, subject: Subject, caller: Caller
    ) -> None:
        now = caller.claim(subject.id, subject.generation)
        with refused_for("SESSION_CLAIMED"):
            caller.claim(subject.id, subject.generation)
        assert subject.now == now

    def test_same_request_returns_the_claim_while_its_generation_lives(
        self, path: Path, advanced: Subject, caller: Caller
    ) -> None:
        old, request_id = advanced.generation, str(uuid.uuid4())
        advanced.generation = caller.claim(advanced.id, old, request_id).generation
        advanced.advance(path)
        now = advanced.now
        assert caller.claim(advanced.id, old, request_id) == now
        assert caller.claim(advanced.id, old, request_id.upper()) == now
        successor = caller.claim(advanced.id, advanced.generation)
        with refused_for("SESSION_CLAIMED"):
            caller.claim(advanced.id, old, request_id)
        assert advanced.now == successor

    def test_step_without_a_generation_is_refused_until_a_reset(
        self, advanced: Subject, caller: Caller
    ) -> None:
        frames = advanced.frames[advanced.next_step]
        with UnaryPath(caller) as path:
            request = pb.StepSessionRequest(
                session=advanced.id, step_count=1, frames=frames.ravel().tolist()
            )
            generation = caller.claim(advanced.id, advanced.generation).generation
            refusal = refused(path, "SESSION_CLAIMED", request)
            assert "got_generation" not in refusal.metadata
            caller.reset(advanced.id, generation, str(uuid.uuid4()))
            assert path.send(encoded(request)).first_step == 0

    def test_creation_that_is_sent_again_does_not_get_the_claimed_session(
        self, create: Any, caller: Caller
    ) -> None:
        request_id = str(uuid.uuid4())
        created = create(session=str(uuid.uuid4()), request_id=request_id)
        claimed = caller.claim(created.id, created.generation)
        with refused_for("SESSION_CLAIMED"):
            create(session=created.id, request_id=request_id)
        assert caller.get(created.id) == claimed

    def test_force_claims_whichever_generation_lives(
        self, subject: Subject, caller: Caller
    ) -> None:
        first = caller.claim(subject.id, subject.generation)
        second = caller.claim(subject.id, 0, force=True)
        assert second.generation not in (first.generation, subject.generation)

    def test_force_and_a_generation_are_refused_together(
        self, subject: Subject, caller: Caller
    ) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.claim(subject.id, subject.generation, force=True)
        assert metadata["field"] == "generation"

    @pytest.mark.parametrize("request_id", ["x", " "])
    def test_claim_without_a_request_id_is_refused(
        self, subject: Subject, caller: Caller, request_id: str
    ) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.claim(subject.id, subject.generation, request_id)
        assert metadata["field"] == "request_id"
        assert subject.now == subject.session


class TestGetOutputs:
    """The window's outputs are answered as they were."""

    @pytest.mark.parametrize(
        ("back", "count", "expected"),
        [(None, 0, WINDOW), (WINDOW, 2, 2), (3, 0, 3), (3, 3, 3), (1, 1, 1), (0, 0, 0)],
    )
    def test_outputs_are_those_of_the_steps(
        self, advanced: Subject, caller: Caller, back: int | None, count: int, expected: int
    ) -> None:
        now, fields = advanced.now, {"step_count": count}
        if back is not None:
            fields["first_step"] = advanced.next_step - back
        answer = caller.outputs(advanced.id, advanced.generation, **fields)
        first = advanced.next_step - (WINDOW if back is None else back)
        advanced.hold_answer(answer, first, expected)
        assert answer.store_id == now.store_id
        # Nothing is renewed by it.
        assert advanced.now == now

    def test_session_without_steps_has_none(self, subject: Subject, caller: Caller) -> None:
        answer = caller.outputs(subject.id, subject.generation)
        assert (answer.first_step, answer.step_count, len(answer.outputs)) == (0, 0, 0)
        assert answer.history == subject.session.history

    def test_no_more_than_an_answer_may_have_are_asked_for(
        self, advanced: Subject, caller: Caller
    ) -> None:
        for count in (-1, advanced.session.max_step_count + 1):
            with refused_for("ARGUMENT_INVALID") as metadata:
                caller.outputs(advanced.id, advanced.generation, step_count=count)
            assert metadata["field"] == "step_count"
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.outputs(advanced.id, advanced.generation, first_step=-1)
        assert metadata["field"] == "first_step"

    def test_step_that_left_the_window_is_stale(self, advanced: Subject, caller: Caller) -> None:
        with refused_for("STEP_STALE") as metadata:
            caller.outputs(advanced.id, advanced.generation, first_step=2)
        assert int(metadata["window_start_step"]) == 3

    @pytest.mark.parametrize(("ahead", "count"), [(1, 0), (0, 1), (-1, 2), (2**62, 1)])
    def test_step_that_is_not_applied_yet_is_a_gap(
        self, advanced: Subject, caller: Caller, ahead: int, count: int
    ) -> None:
        first = advanced.next_step + ahead
        with refused_for("STEP_GAP") as metadata:
            caller.outputs(advanced.id, advanced.generation, first_step=first, step_count=count)
        assert int(metadata["next_step"]) == advanced.next_step

    def test_several_series_have_their_own(self, vector: Subject, caller: Caller) -> None:
        with UnaryPath(caller) as path:
            vector.advance(path, 3)
        answer = caller.outputs(vector.id, vector.generation)
        assert len(np.array(answer.outputs)) == vector.outputs[:3].size
        vector.hold_answer(answer, 0, 3)
