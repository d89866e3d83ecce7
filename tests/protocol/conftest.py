"""The protocol suite: what every server of tickcell.v1 must do, whoever wrote it.

    pytest tests/protocol --address HOST:PORT [--bundle DIRECTORY]

It speaks raw messages over gRPC, and steps and deletes only sessions that it created.
Outputs are held, bit for bit, to the loop over
the bundle's cell in this process, so the server must serve that bundle on such a machine
as this. Without an address it starts a server of its own.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from doubles.in_process_server import InProcessServer
from protocol.caller import PATHS, Caller, Path, Refused
from protocol.subject import Scene, Subject
from tickcell.model import Bundle
from tickcell.server.catalogue import ServedModel
from tickcell.server.store import SqliteStore
from tickcell.v1 import model_service_pb2
from tickcell.v1 import session_service_pb2 as pb


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--address", help="the server to test; none: one of the suite's own")
    parser.addoption("--bundle", type=pathlib.Path, help="what it serves; none: the shipped one")


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest) -> Bundle:
    path = request.config.getoption("--bundle", None)
    return Bundle.load(path) if path else Bundle.load()


@pytest.fixture(scope="session")
def address(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    asked = request.config.getoption("--address", None)
    if asked:
        yield asked
        return
    records = SqliteStore.open(tmp_path_factory.mktemp("protocol") / "store")
    with InProcessServer([ServedModel.load(bundle)], records) as server:
        yield server.address
    records.close()


@pytest.fixture(scope="session")
def caller(address: str, bundle: Bundle) -> Iterator[Caller]:
    with Caller(address) as opened:
        wanted = model_service_pb2.GetModelRequest(
            name=bundle.card.name, version=bundle.card.version
        )
        model = opened.call(opened.models.GetModel, wanted).model
        numerics = bundle.cell().numerics_digest
        if (model.fingerprint, model.numerics_digest) != (bundle.fingerprint, numerics):
            pytest.exit(
                f"{address} serves {model.fingerprint} with numerics {model.numerics_digest}, "
                f"and the bundle is {bundle.fingerprint} with {numerics} here: its outputs "
                "cannot be told",
                returncode=pytest.ExitCode.USAGE_ERROR,
            )
        yield opened


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, caller: Caller) -> Iterator[Path]:
    """Each of the two ways to step."""
    with PATHS[request.param](caller) as opened:
        yield opened


@pytest.fixture
def subject(caller: Caller, bundle: Bundle) -> Iterator[Subject]:
    """A session that has no step yet."""
    yield from _lives(Subject(caller, bundle))


@pytest.fixture
def bystander(caller: Caller, bundle: Bundle) -> Iterator[Subject]:
    """Another one."""
    yield from _lives(Subject(caller, bundle))


@pytest.fixture
def vector(caller: Caller, bundle: Bundle) -> Iterator[Subject]:
    """A session of three series that has no step yet."""
    yield from _lives(Subject(caller, bundle, series_count=3))


@pytest.fixture
def scene(path: Path, subject: Subject, bystander: Subject) -> Scene:
    """Two sessions, each with more steps than its window holds."""
    return Scene(path, subject, bystander)


@pytest.fixture
def vector_scene(path: Path, vector: Subject, bystander: Subject) -> Scene:
    """The same with a session of three series."""
    return Scene(path, vector, bystander)


def _lives(subject: Subject) -> Iterator[Subject]:
    yield subject
    subject.clear()


@pytest.fixture
def model(bundle: Bundle) -> dict[str, str]:
    """The fields that name the model."""
    return {"model": bundle.card.name, "model_version": bundle.card.version}


@pytest.fixture
def create(caller: Caller, model: dict[str, str]) -> Iterator[Any]:
    """Creates sessions, and deletes at the end what is left of them."""
    created: list[str] = []

    def create(**fields: Any) -> pb.Session:
        session = caller.create(**{**model, **fields})
        created.append(session.id)
        return session

    yield create
    for session in created:
        with contextlib.suppress(Refused):
            caller.delete(session, caller.get(session).generation)
