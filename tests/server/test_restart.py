"""What becomes of a session when its server starts again with something else, or elsewhere."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from doubles.bundle_variant import variant
from doubles.looped import looped
from server.serve_process import ServeProcess
from tickcell.conformance.caller import Caller, StreamPath
from tickcell.conformance.subject import Subject, refused
from tickcell.model import Bundle
from tickcell.model.bundle import SHIPPED
from tickcell.server import record
from tickcell.server.store import Applied, Change, Key, SqliteStore
from tickcell.v1 import model_service_pb2

ANY_PORT = ("--listen", "localhost:0")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture
def store(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "store"


def test_session_whose_model_is_not_served_can_be_seen_and_deleted(
    store: pathlib.Path, tmp_path: pathlib.Path, bundle: Bundle
) -> None:
    other = dataclasses.replace(
        variant(bundle, "1"), card=dataclasses.replace(bundle.card, name="other")
    )
    other.write(tmp_path / "other")
    arguments = (*ANY_PORT, "--store", str(store))
    with ServeProcess(*arguments) as server, Caller(server.address) as caller:
        subject = Subject(caller, looped(bundle, caller))
        with StreamPath(caller) as path:
            subject.advance(path, 3)
        server.end()
    with (
        ServeProcess(*arguments, "--bundle", str(tmp_path / "other")) as server,
        Caller(server.address) as caller,
        StreamPath(caller) as path,
    ):
        assert caller.get(subject.id).next_step == 3
        subject.repeat(path, 0, 3)
        refusal = refused(path, "MODEL_NOT_SERVED", subject.request(path, 3))
        assert refusal.metadata["model_fingerprint"] == bundle.fingerprint
        caller.touch(subject.id, subject.generation)
        server.end()
    both = ("--bundle", str(SHIPPED), "--bundle", str(tmp_path / "other"))
    with (
        ServeProcess(*arguments, *both) as server,
        Caller(server.address) as caller,
        StreamPath(caller) as path,
    ):
        subject.advance(path)
        models = caller.call(caller.models.ListModels, model_service_pb2.ListModelsRequest())
        assert [model.name for model in models.models] == ["drive", "other"]
        caller.delete(subject.id, subject.generation)


def test_session_from_a_machine_of_other_numerics_is_served_or_strictly_refused(
    store: pathlib.Path, bundle: Bundle
) -> None:
    arguments = (*ANY_PORT, "--store", str(store))
    with ServeProcess(*arguments) as server, Caller(server.address) as caller:
        subject = Subject(caller, looped(bundle, caller))
        with StreamPath(caller) as path:
            subject.advance(path, 3)
        server.end()
    records = SqliteStore.open(store)
    key = Key("", subject.id)
    (encoded,) = records.load([key])
    assert encoded is not None
    elsewhere = record.decode(key, encoded)._replace(numerics=b"elsewher")
    assert records.commit([Change(key, encoded, record.encode(key, elsewhere))]) == [Applied()]
    records.close()
    with (
        ServeProcess(*arguments, "--numerics", "strict") as server,
        Caller(server.address) as caller,
        StreamPath(caller) as path,
    ):
        refusal = refused(path, "NUMERICS_CHANGED", subject.request(path, 3))
        assert refusal.metadata["expected"] == b"elsewher".hex()
        subject.repeat(path, 0, 3)
        server.end()
    with (
        ServeProcess(*arguments) as server,
        Caller(server.address) as caller,
        StreamPath(caller) as path,
    ):
        subject.advance(path)
        subject.advance(path)
        shown = caller.get(subject.id)
        assert shown.numerics_start_step == 3
        assert shown.numerics_digest == bundle.cell().numerics_digest
        _, log = server.end()
        assert log.count("under other numerics") == 1
