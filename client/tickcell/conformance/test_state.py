"""A session's state as a value: claims, forks, exports, migrations, previews, episodes."""

from __future__ import annotations

import hashlib
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

    def test_generation_of_however_many_claims_before_is_told_of_claims(
        self, subject: Subject, caller: Caller
    ) -> None:
        old = generation = subject.generation
        for _ in range(12):
            generation = caller.claim(subject.id, generation).generation
            with refused_for("SESSION_CLAIMED"):
                caller.touch(subject.id, old)

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


class TestFork:
    def go_on(self, path: Path, source: Subject, fork: pb.Session, count: int = 3) -> None:
        """Gives a fork the next frames, and holds it to the loop."""
        source.id, source.generation = fork.id, fork.generation
        for _ in range(count):
            source.advance(path)

    def test_fork_goes_on_where_its_source_is(
        self, path: Path, advanced: Subject, caller: Caller
    ) -> None:
        before = advanced.now
        fork = caller.fork(advanced.id, advanced.generation, labels={"why": "what if"})
        for field in ("model", "model_version", "series_count", "window_step_count", "history"):
            assert getattr(fork, field) == getattr(before, field)
        assert (fork.next_step, fork.origin_step) == (before.next_step, before.next_step)
        assert fork.generation != before.generation
        assert dict(fork.labels) == {"why": "what if"}
        assert caller.get(before.id) == before
        self.go_on(path, advanced, fork)
        # The source is left where it is, and goes on by itself.
        assert caller.get(before.id) == before

    def test_window_of_a_fork_is_empty(self, path: Path, advanced: Subject, caller: Caller) -> None:
        fork = caller.fork(advanced.id, advanced.generation)
        advanced.id, advanced.generation = fork.id, fork.generation
        refused(path, "STEP_STALE", advanced.request(path, advanced.next_step - 1))
        assert caller.outputs(fork.id, fork.generation).step_count == 0

    def test_same_request_returns_the_fork_whatever_became_of_its_source(
        self, path: Path, advanced: Subject, caller: Caller
    ) -> None:
        source, generation = advanced.id, advanced.generation
        step, request_id = advanced.next_step, str(uuid.uuid4())
        fork = caller.fork(source, generation, step=step, request_id=request_id)
        advanced.advance(path)
        assert caller.fork(source, generation, step=step, request_id=request_id) == fork
        caller.delete(source, generation)
        assert caller.fork(source, generation, step=step, request_id=request_id) == fork
        self.go_on(path, advanced, fork, 0)
        advanced.next_step = step
        advanced.advance(path)

    @pytest.mark.parametrize(("ahead", "reason"), [(-1, "STEP_STALE"), (1, "STEP_GAP")])
    def test_source_that_is_at_another_step_is_refused(
        self, advanced: Subject, caller: Caller, ahead: int, reason: str
    ) -> None:
        with refused_for(reason) as metadata:
            caller.fork(advanced.id, advanced.generation, step=advanced.next_step + ahead)
        assert int(metadata["next_step"]) == advanced.next_step

    def test_reset_of_a_fork_returns_to_its_origin(
        self, path: Path, advanced: Subject, caller: Caller
    ) -> None:
        fork = caller.fork(advanced.id, advanced.generation)
        self.go_on(path, advanced, fork)
        anew = caller.reset(fork.id, fork.generation, str(uuid.uuid4()))
        assert (anew.next_step, anew.history) == (fork.next_step, fork.history)
        advanced.next_step = anew.next_step
        self.go_on(path, advanced, anew)

    def test_fork_of_a_fork_goes_on_too(
        self, path: Path, advanced: Subject, caller: Caller
    ) -> None:
        first = caller.fork(advanced.id, advanced.generation)
        self.go_on(path, advanced, first)
        second = caller.fork(advanced.id, advanced.generation)
        assert second.origin_step == advanced.next_step
        self.go_on(path, advanced, second)

    def test_id_of_a_live_session_is_refused(
        self, subject: Subject, bystander: Subject, caller: Caller
    ) -> None:
        with refused_for("SESSION_EXISTS"):
            caller.fork(subject.id, subject.generation, session=bystander.id)
        with refused_for("SESSION_EXISTS"):
            caller.fork(subject.id, subject.generation, session=subject.id)

    def test_fork_without_a_request_id_is_refused(self, subject: Subject, caller: Caller) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.fork(subject.id, subject.generation, request_id="")
        assert metadata["field"] == "request_id"


class TestPreview:
    def preview(
        self, subject: Subject, branches: int, count: int, **fields: Any
    ) -> pb.PreviewStepsResponse:
        """Previews the next steps, in branches that are all the same."""
        step = subject.next_step
        frames = np.stack([subject.frames[step : step + count]] * branches)
        given = {
            "step": step,
            "branch_count": branches,
            "step_count": count,
            "frames": frames.ravel().tolist(),
            **fields,
        }
        return subject.caller.preview(subject.id, subject.generation, **given)

    @pytest.mark.parametrize("kind", ["subject", "vector"])
    @pytest.mark.parametrize(("branches", "count"), [(1, 1), (1, WINDOW), (3, 2)])
    def test_outputs_are_those_of_the_steps_that_follow(
        self, request: pytest.FixtureRequest, path: Path, kind: str, branches: int, count: int
    ) -> None:
        subject: Subject = request.getfixturevalue(kind)
        subject.advance(path, 5)
        before = subject.now
        answer = self.preview(subject, branches, count)
        assert subject.now == before
        step = subject.next_step
        assert (answer.step, answer.branch_count, answer.step_count) == (step, branches, count)
        expected = np.stack([subject.outputs[step : step + count]] * branches)
        assert np.array(answer.outputs, np.float32).tobytes() == expected.tobytes()
        subject.advance(path, count)

    def test_branches_go_on_by_themselves(self, path: Path, subject: Subject) -> None:
        subject.advance(path, 5)
        own = subject.frames[5:8]
        other = np.stack([own[2], own[0], own[1]])
        both = np.concatenate((own.ravel(), other.ravel())).tolist()
        answer = self.preview(subject, 2, 3, frames=both)
        turned = self.preview(subject, 1, 3, frames=other.ravel().tolist())
        outputs = np.array(answer.outputs, np.float32).reshape(2, -1)
        assert outputs[0].tobytes() == subject.outputs[5:8].tobytes()
        assert outputs[1].tolist() == list(turned.outputs)

    @pytest.mark.parametrize("ahead", [-1, 1])
    def test_another_step_is_a_gap(self, path: Path, subject: Subject, ahead: int) -> None:
        subject.advance(path, 5)
        with refused_for("STEP_GAP") as metadata:
            self.preview(subject, 1, 1, step=5 + ahead)
        assert int(metadata["next_step"]) == 5

    def test_no_step_is_refused(self, subject: Subject) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            self.preview(subject, 1, 1, step=None)
        assert metadata["field"] == "step"

    @pytest.mark.parametrize("count", [0, -1, WINDOW + 1])
    def test_step_count_outside_one_to_the_window_is_refused(
        self, subject: Subject, count: int
    ) -> None:
        with refused_for("FRAME_SHAPE"):
            self.preview(subject, 1, 1, step_count=count)

    @pytest.mark.parametrize("branches", [-1, 2**31 - 1])
    def test_number_of_branches_that_does_not_fit_is_refused(
        self, subject: Subject, branches: int
    ) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            self.preview(subject, 1, 1, branch_count=branches)
        assert metadata["field"] == "branch_count"

    def test_number_of_readings_that_does_not_fit_is_refused(self, subject: Subject) -> None:
        with refused_for("FRAME_SHAPE") as metadata:
            self.preview(subject, 2, 2, branch_count=3)
        assert metadata["branch_count"] == "3"

    def test_reading_that_is_no_number_is_refused_with_its_branch(self, vector: Subject) -> None:
        frames = np.stack([vector.frames[:2]] * 3)
        frames[1, 1, 2, 0] = np.nan
        with refused_for("FRAME_NOT_FINITE") as metadata:
            self.preview(vector, 3, 2, frames=frames.ravel().tolist())
        assert (metadata["branch"], metadata["step"], metadata["series"]) == ("1", "1", "2")


class TestExport:
    def bring(self, source: Subject, exported: pb.SessionExport, **fields: Any) -> pb.Session:
        """Creates a session from an export, and lets the subject be that one from now on."""
        created = source.caller.create(session=f"import-{uuid.uuid4()}", export=exported, **fields)
        source.id, source.generation = created.id, created.generation
        return created

    @pytest.mark.parametrize("window", [False, True])
    @pytest.mark.parametrize("kind", ["subject", "vector"])
    def test_imported_session_goes_on_as_the_loop(
        self, request: pytest.FixtureRequest, path: Path, caller: Caller, kind: str, window: bool
    ) -> None:
        source: Subject = request.getfixturevalue(kind)
        source.advance(path, 5)
        before = source.now
        exported = caller.export(source.id, source.generation, window=window)
        assert source.now == before
        created = self.bring(source, exported)
        for field in ("next_step", "history", "model", "series_count", "window_step_count"):
            assert getattr(created, field) == getattr(before, field)
        assert (created.origin_step, created.generation != before.generation) == (0, True)
        if window:
            source.repeat(path, 2, 3)
        else:
            refused(path, "STEP_STALE", source.request(path, 4))
        source.advance(path, 3)

    def test_content_says_what_the_session_is(
        self, path: Path, vector: Subject, caller: Caller, served: Any
    ) -> None:
        vector.advance(path, 2)
        exported = caller.export(vector.id, vector.generation, window=True)
        content = pb.SessionContent.FromString(exported.content)
        assert (content.session, content.generation) == (vector.id, vector.generation)
        assert content.model_fingerprint == served.fingerprint
        assert (content.step, content.history) == (2, vector.history_before(2))
        shapes = {each.name: [3, *each.dimensions] for each in served.state_tensors}
        assert {each.name: list(each.dimensions) for each in content.state_tensors} == shapes
        for each in content.state_tensors:
            assert len(each.values) == np.prod(each.dimensions)
        assert np.array(content.window.outputs, np.float32).tobytes() == (
            vector.outputs[:2].tobytes()
        )
        assert not content.HasField("origin")

    def test_window_is_cut_to_that_of_the_new_session(
        self, path: Path, advanced: Subject, caller: Caller
    ) -> None:
        exported = caller.export(advanced.id, advanced.generation, window=True)
        self.bring(advanced, exported, window_step_count=2)
        advanced.repeat(path, advanced.next_step - 2, 2)
        refused(path, "STEP_STALE", advanced.request(path, advanced.next_step - 3, 1))
        advanced.advance(path)

    def test_imported_session_has_the_labels_and_the_origin_that_it_had(
        self, path: Path, subject: Subject, caller: Caller
    ) -> None:
        subject.advance(path, 3)
        fork = caller.fork(subject.id, subject.generation, labels={"a": "b"})
        subject.id, subject.generation = fork.id, fork.generation
        subject.advance(path, 2)
        exported = caller.export(fork.id, fork.generation)
        created = self.bring(subject, exported)
        assert (created.origin_step, dict(created.labels)) == (3, {"a": "b"})
        anew = caller.reset(created.id, created.generation, str(uuid.uuid4()))
        assert (anew.next_step, anew.history) == (3, fork.history)
        subject.generation, subject.next_step = anew.generation, 3
        subject.advance(path, 3)
        assert dict(self.bring(subject, exported, labels={"c": "d"}).labels) == {"c": "d"}

    def test_move_ends_the_session_and_is_exported_once(
        self, path: Path, advanced: Subject, caller: Caller
    ) -> None:
        source, generation, request_id = advanced.id, advanced.generation, str(uuid.uuid4())
        moving = {"window": True, "end": True, "request_id": request_id}
        exported = caller.export(source, generation, **moving)
        late = advanced.request(path, advanced.next_step)
        refusal = refused(path, "SESSION_MOVED", late)
        assert int(refusal.metadata["next_step"]) == advanced.next_step
        for ask in (caller.touch, caller.delete, caller.claim, caller.export):
            with refused_for("SESSION_MOVED"):
                ask(source, generation)
        assert caller.export(source, generation, **moving) == exported
        with refused_for("SESSION_MOVED"):
            caller.export(source, generation, end=True, request_id=str(uuid.uuid4()))
        self.bring(advanced, exported)
        advanced.repeat(path, advanced.next_step - 1)
        advanced.advance(path)
        # The id is free again, as that of any ended session.
        assert caller.create(session=source, model=advanced.session.model).next_step == 0

    def test_move_without_a_request_id_is_refused(self, subject: Subject, caller: Caller) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.export(subject.id, subject.generation, end=True)
        assert metadata["field"] == "request_id"
        assert subject.now == subject.session

    @pytest.mark.parametrize(
        ("field", "value"), [("model", "another"), ("model_version", "0"), ("series_count", 2)]
    )
    def test_what_does_not_agree_with_the_export_is_refused(
        self, subject: Subject, caller: Caller, field: str, value: Any
    ) -> None:
        exported = caller.export(subject.id, subject.generation)
        with refused_for("ARGUMENT_INVALID") as metadata:
            self.bring(subject, exported, **{field: value})
        assert (metadata["field"], metadata["got"]) == (field, str(value))

    def test_export_of_a_newer_format_is_refused(self, subject: Subject, caller: Caller) -> None:
        exported = caller.export(subject.id, subject.generation)
        exported.format_version += 1
        with refused_for("EXPORT_NEWER") as metadata:
            self.bring(subject, exported)
        assert int(metadata["version"]) == int(metadata["max_version"]) + 1

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content.ClearField("history"),
            lambda content: content.ClearField("state_tensors"),
            lambda content: content.state_tensors.append(content.state_tensors[0]),
            lambda content: content.state_tensors[0].values.pop(),
            lambda content: content.state_tensors[0].values.__setitem__(0, float("nan")),
            lambda content: content.state_tensors[0].dimensions.append(1),
            lambda content: setattr(content, "numerics_digest", "no digest"),
            lambda content: setattr(content, "step", -1),
            lambda content: setattr(content, "series_count", 0),
            lambda content: content.window.outputs.append(1.0),
            lambda content: setattr(content.window, "history_chain", bytes(24)),
            lambda content: setattr(content.origin, "step", 1),
        ],
        ids=[
            *("no history", "no state", "a tensor twice", "a value short", "not finite"),
            *("another shape", "no digest", "a negative step", "no series", "an output more"),
            *("other histories", "half an origin"),
        ],
    )
    def test_damaged_export_is_refused(self, subject: Subject, caller: Caller, damage: Any) -> None:
        exported = caller.export(subject.id, subject.generation, window=True)
        content = pb.SessionContent.FromString(exported.content)
        damage(content)
        exported.content = content.SerializeToString()
        with refused_for("EXPORT_REFUSED"):
            self.bring(subject, exported)

    def test_bytes_that_are_no_export_are_refused(self, subject: Subject) -> None:
        for exported in (
            pb.SessionExport(format_version=1, content=b"\xff"),
            pb.SessionExport(content=b""),
            pb.SessionExport(format_version=-1, content=b""),
        ):
            with refused_for("EXPORT_REFUSED"):
                self.bring(subject, exported)

    def test_export_of_a_model_that_is_not_served_is_refused(
        self, subject: Subject, caller: Caller
    ) -> None:
        exported = caller.export(subject.id, subject.generation)
        content = pb.SessionContent.FromString(exported.content)
        content.model_fingerprint = "f" * 64
        exported.content = content.SerializeToString()
        with refused_for("EXPORT_REFUSED") as metadata:
            self.bring(subject, exported)
        assert metadata["got"] == "f" * 64
        assert metadata["expected"] == subject.session.model_fingerprint
        content.model = "another"
        exported.content = content.SerializeToString()
        with refused_for("MODEL_UNKNOWN"):
            self.bring(subject, exported)


class TestInitialState:
    """A session begins with a state that its creator gives."""

    def state_of(self, subject: Subject) -> Any:
        exported = subject.caller.export(subject.id, subject.generation)
        return pb.SessionContent.FromString(exported.content).state_tensors

    @pytest.mark.parametrize("kind", ["subject", "vector"])
    def test_it_goes_on_from_the_state_at_step_0(
        self, request: pytest.FixtureRequest, path: Path, create: Any, kind: str
    ) -> None:
        subject: Subject = request.getfixturevalue(kind)
        subject.advance(path, 3)
        created = create(
            session=f"begun-{uuid.uuid4()}", initial_state_tensors=[*self.state_of(subject)][::-1]
        )
        assert (created.next_step, created.origin_step) == (0, 0)
        assert created.series_count == subject.session.series_count
        # Its frames are those from step 3 on, and so are its outputs.
        subject.frames, subject.outputs = subject.frames[3:], subject.outputs[3:]
        subject.id, subject.generation, subject.next_step = created.id, created.generation, 0
        subject.advance(path, 3)
        anew = subject.caller.reset(created.id, created.generation, str(uuid.uuid4()))
        subject.generation, subject.next_step = anew.generation, 0
        subject.advance(path, 2)

    @pytest.mark.parametrize("wrong", ["missing", "unknown", "twice", "short", "nan", "series"])
    def test_tensors_that_are_not_the_models_are_refused(
        self, subject: Subject, create: Any, wrong: str
    ) -> None:
        given, fields = [*self.state_of(subject)], {}
        match wrong:
            case "missing":
                given[0].name = ""
            case "unknown":
                given.append(pb.StateTensor(name="another", dimensions=[1], values=[0.0]))
            case "twice":
                given.append(given[0])
            case "short":
                given[0].values.pop()
            case "nan":
                given[0].values[0] = float("nan")
            case "series":
                fields["series_count"] = 2
        with refused_for("ARGUMENT_INVALID") as metadata:
            create(initial_state_tensors=given, **fields)
        assert metadata["field"] == "initial_state_tensors"

    def test_state_beside_an_export_is_refused(
        self, subject: Subject, create: Any, caller: Caller
    ) -> None:
        exported = caller.export(subject.id, subject.generation)
        with refused_for("ARGUMENT_INVALID") as metadata:
            create(initial_state_tensors=self.state_of(subject), export=exported)
        assert metadata["field"] == "initial_state_tensors"


class TestEpisodes:
    """A series begins anew before a frame, as part of its step."""

    def outputs(self, caller: Caller, subject: Subject, first: int, series: int) -> Any:
        """Returns what one series gives in a session of its own that begins with a frame."""
        fresh = caller.create(model=subject.session.model, window_step_count=WINDOW)
        frames = subject.frames[first : first + WINDOW, series]
        request = pb.StepSessionRequest(
            session=fresh.id,
            generation=fresh.generation,
            first_step=0,
            step_count=len(frames),
            frames=frames.ravel().tolist(),
        )
        with UnaryPath(caller) as path:
            answer = path.send(encoded(request))
        return np.array(answer.outputs, np.float32).reshape(len(frames), -1)

    def history(self, subject: Subject, marks: dict[int, int], end: int) -> bytes:
        """Returns the history of its frames with marks at some steps, as the contract has it."""
        history = bytes(8)
        for step, frame in enumerate(subject.frames[:end]):
            said = frame.astype("<f4").tobytes()
            if step in marks:
                said += marks[step].to_bytes(1, "little")
            history = hashlib.blake2b(history + said, digest_size=8).digest()
        return history

    def test_series_begins_anew_and_the_others_go_on(
        self, path: Path, vector: Subject, caller: Caller
    ) -> None:
        vector.advance(path, 3)
        # Series 1 before the first of four frames, 0 and 2 before the third.
        resets = [1, 6, 8]
        answer = path.send(encoded(vector.request(path, 3, 4, resets=resets)))
        got = np.array(answer.outputs, np.float32).reshape(4, 3, -1)
        expected = vector.outputs[3:7].copy()
        expected[:, 1] = self.outputs(caller, vector, 3, 1)[:4]
        expected[2:, 0] = self.outputs(caller, vector, 5, 0)[:2]
        expected[2:, 2] = self.outputs(caller, vector, 5, 2)[:2]
        assert got.tobytes() == expected.tobytes()
        assert answer.history == self.history(vector, {3: 0b010, 5: 0b101}, 7)

    def test_retry_in_other_chunks_is_the_same_only_with_its_resets(
        self, path: Path, vector: Subject
    ) -> None:
        first = path.send(encoded(vector.request(path, 0, 4, resets=[2, 7])))
        size = len(first.outputs) // 4
        again = path.send(encoded(vector.request(path, 1, 5, resets=[4])))
        assert again.outputs[: 3 * size] == first.outputs[size:]
        refusal = refused(path, "STEP_CONFLICT", vector.request(path, 1, 2))
        assert refusal.metadata["step"] == "2"
        refused(path, "STEP_CONFLICT", vector.request(path, 2, 1, resets=[1, 2]))
        assert path.send(encoded(vector.request(path, 2, 1, resets=[1]))).step_count == 1

    def test_session_of_one_series_begins_anew(
        self, path: Path, subject: Subject, caller: Caller
    ) -> None:
        subject.advance(path, 5)
        answer = path.send(encoded(subject.request(path, 5, 3, resets=[0, 2])))
        got = np.array(answer.outputs, np.float32).reshape(3, -1)
        assert got[:2].tobytes() == self.outputs(caller, subject, 5, 0)[:2].tobytes()
        assert got[2:].tobytes() == self.outputs(caller, subject, 7, 0)[:1].tobytes()

    def test_series_of_a_fork_begins_anew_from_its_origin(
        self, path: Path, subject: Subject, caller: Caller
    ) -> None:
        subject.advance(path, 4)
        fork = caller.fork(subject.id, subject.generation)
        subject.advance(path, 1)
        first = np.array(subject.outputs[4])
        subject.id, subject.generation = fork.id, fork.generation
        frames = np.stack([subject.frames[5], subject.frames[4]])
        answer = path.send(encoded(subject.request(path, 4, 2, frames=frames, resets=[1])))
        got = np.array(answer.outputs, np.float32).reshape(2, -1)
        assert got[1].tobytes() == first.tobytes()

    def test_preview_is_of_the_steps_that_follow(
        self, path: Path, vector: Subject, caller: Caller
    ) -> None:
        vector.advance(path, 2)
        frames = vector.frames[2:5]
        answer = caller.preview(
            vector.id,
            vector.generation,
            step=2,
            branch_count=2,
            step_count=3,
            frames=np.concatenate((frames, frames)).ravel().tolist(),
            # Of branch 0 series 1 before its second frame; of branch 1 series 2 before its last.
            resets=[4, 9 + 8],
        )
        previewed = np.array(answer.outputs, np.float32).reshape(2, -1)
        fork = caller.fork(vector.id, vector.generation)
        stepped = path.send(encoded(vector.request(path, 2, 3, resets=[4])))
        assert previewed[0].tolist() == list(stepped.outputs)
        vector.id, vector.generation = fork.id, fork.generation
        other = path.send(encoded(vector.request(path, 2, 3, resets=[8])))
        # The fork would begin anew from step 2, and not from the cell's beginning.
        assert previewed[1].tolist()[: 2 * 3] == list(other.outputs)[: 2 * 3]

    @pytest.mark.parametrize("resets", [[-1], [6], [0, 0], [3, 1], [2**31 - 1]])
    def test_index_that_is_none_of_the_step_s_is_refused(
        self, path: Path, vector: Subject, resets: list[int]
    ) -> None:
        refusal = refused(path, "ARGUMENT_INVALID", vector.request(path, 0, 2, resets=resets))
        assert refusal.metadata["field"] == "resets"
        vector.advance(path, 2)


class TestMigrate:
    """Of a server that has one version there is not much to ask."""

    def test_version_that_it_has_or_nobody_serves_is_refused(
        self, path: Path, subject: Subject, caller: Caller
    ) -> None:
        subject.advance(path, 2)
        before = subject.now
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.migrate(subject.id, subject.generation, model_version=before.model_version)
        assert metadata["field"] == "model_version"
        with refused_for("MODEL_UNKNOWN"):
            caller.migrate(subject.id, subject.generation, model_version="no-such-version")
        assert subject.now == before

    def test_burnt_in_session_is_named_whole(
        self, subject: Subject, bystander: Subject, caller: Caller
    ) -> None:
        with refused_for("ARGUMENT_INVALID") as metadata:
            caller.migrate(subject.id, subject.generation, state_session=bystander.id)
        assert metadata["field"] == "state_generation"
