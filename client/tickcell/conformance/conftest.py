"""The fixtures of the suite, all over the one that says what is tested: `target`.

Whoever runs the suite gives it: `tickcell conform`, or the project's own tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tickcell.conformance.caller import PATHS, Caller, Path
from tickcell.conformance.course import Course
from tickcell.conformance.run import Target
from tickcell.conformance.subject import Scene, Subject
from tickcell.v1 import model_service_pb2
from tickcell.v1 import session_service_pb2 as pb


@pytest.fixture(scope="session")
def caller(target: Target) -> Caller:
    """Connected to the server."""
    return target.caller


@pytest.fixture(scope="session")
def course(target: Target) -> Course:
    """What the sessions are fed."""
    return target.course


@pytest.fixture(scope="session")
def served(course: Course) -> model_service_pb2.Model:
    """The model, as the server shows it."""
    return course.model


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, caller: Caller) -> Iterator[Path]:
    """Each of the ways to step."""
    with PATHS[request.param](caller) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_is_left(caller: Caller) -> Iterator[None]:
    """Deletes what a test leaves; what cannot be deleted is said at the end of the run."""
    yield
    caller.clear()


@pytest.fixture
def subject(caller: Caller, course: Course) -> Subject:
    """A session that has no step yet."""
    return Subject(caller, course)


@pytest.fixture
def bystander(caller: Caller, course: Course) -> Subject:
    """Another one."""
    return Subject(caller, course)


@pytest.fixture
def vector(caller: Caller, course: Course) -> Subject:
    """A session of three series that has no step yet."""
    return Subject(caller, course, series_count=3)


@pytest.fixture
def scene(path: Path, subject: Subject, bystander: Subject) -> Scene:
    """Two sessions, each with more steps than its window holds."""
    return Scene(path, subject, bystander)


@pytest.fixture
def vector_scene(path: Path, vector: Subject, bystander: Subject) -> Scene:
    """The same with a session of three series."""
    return Scene(path, vector, bystander)


@pytest.fixture
def create(caller: Caller, served: model_service_pb2.Model) -> Any:
    """Creates sessions of the model."""

    def create(**fields: Any) -> pb.Session:
        return caller.create(**{"model": served.name, "model_version": served.version, **fields})

    return create
