"""Owners do not reach each other's sessions, by whichever RPC.

The RPCs are those of the server that runs and of the descriptors of its services; each must
have a case here. A case is what bob does with ann's session, of which he knows everything but
her token; or, of an RPC that is about no session, why there is nothing to reach.
"""

from __future__ import annotations

import contextlib
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as oip_pb

from databases import Databases
from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.known_callers import KnownCallers
from tickcell.conformance.caller import (
    PATHS,
    Caller,
    Path,
    Refused,
    StreamPath,
    TogetherPath,
    UnaryPath,
    refusal,
    refused_for,
)
from tickcell.conformance.peer import SERVICE, Peer, PeerStream
from tickcell.conformance.peer import Refused as NotInferred
from tickcell.server.store import EmbeddedStore, MemoryStore, NetworkStore, SqliteStore
from tickcell.v1 import model_service_pb2
from tickcell.v1 import session_service_pb2 as pb

REQUEST_ID = "6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31"


class Scene:
    """A server with two owners.

    Attributes:
      server: it.
      ann: owns the session.
      bob: owns another one.
      operator: an operator.
      session: ann's, in the midst of its life.
    """

    def __init__(self, server: InProcessServer, ann: Caller, bob: Caller, operator: Caller) -> None:
        self.server = server
        self.ann, self.bob, self.operator = ann, bob, operator
        self.session = ann.create(
            session="robot", request_id=REQUEST_ID, labels={"secret": "ann's own"}
        )
        for step in range(3):
            self.step(ann, step)

    def step(self, caller: Caller, first_step: int, **fields: Any) -> float:
        """Sends a step of ann's session; returns its output."""
        with UnaryPath(caller) as path:
            (output,) = path.send(self.request(path, first_step, **fields)).outputs
        return output

    def request(self, path: Path, first_step: int, **fields: Any) -> bytes:
        request = path.request_class(
            **{
                "session": self.session.id,
                "generation": self.session.generation,
                "first_step": first_step,
                "step_count": 1,
                "frames": [1.0],
                **fields,
            }
        )
        encoded: bytes = request.SerializeToString()
        return encoded

    def is_untouched(self, before: pb.Session) -> None:
        """Checks that ann's session is as it was, and goes on."""
        assert self.ann.get(self.session.id) == before
        assert self.step(self.ann, before.next_step) == 1.0 + 1000.0 * before.next_step


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def records(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, databases: Databases
) -> Iterator[EmbeddedStore | NetworkStore]:
    if request.param == "postgresql":
        with contextlib.closing(databases.store()) as store:
            yield store.awaited
        return
    opened: EmbeddedStore = (
        MemoryStore() if request.param == "memory" else SqliteStore.open(tmp_path / "store")
    )
    yield opened
    opened.close()


@pytest.fixture
def scene(records: EmbeddedStore | NetworkStore, tmp_path: pathlib.Path) -> Iterator[Scene]:
    known = KnownCallers(
        tmp_path,
        """
        [callers]
        "token:ann" = { owner = "ann" }
        "token:bob" = { owner = "bob" }
        "token:operator" = { role = "operator" }
        """,
    )
    tokens = [known.draw(name) for name in ("ann", "bob", "operator")]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            InProcessServer([served(CountingCell())], records, **known.options)
        )
        yield Scene(
            server,
            *(
                stack.enter_context(Caller(server.address, authorization=f"Bearer {token}"))
                for token in tokens
            ),
        )


# What bob does with ann's session.


def unknown(call: Callable[[Scene], object]) -> Callable[[Scene], None]:
    """Returns the case of a call that must answer as if there were no such session."""

    def case(scene: Scene) -> None:
        with refused_for("SESSION_UNKNOWN") as metadata:
            call(scene)
        assert metadata["session"] == scene.session.id

    return case


def create(scene: Scene) -> None:
    """The same id, and even the same request, is a session of bob's own."""
    own = scene.bob.create(session="robot", request_id=REQUEST_ID)
    assert own.owner == "bob"
    assert (own.next_step, dict(own.labels)) == (0, {})
    assert own.generation != scene.session.generation
    # What reaches ann's by nothing but its id is his own from now on.
    assert scene.bob.get("robot") == own
    # An export that bob came by makes a session of his, and leaves hers alone.
    exported = scene.ann.export("robot", scene.session.generation)
    brought = scene.bob.create(session="brought", export=exported)
    assert (brought.owner, brought.next_step) == ("bob", 3)


def fork(scene: Scene) -> None:
    """Neither is it forked, nor is a fork of bob's own put in its place."""
    generation = scene.session.generation
    with refused_for("SESSION_UNKNOWN") as metadata:
        scene.bob.fork("robot", generation)
    assert metadata["session"] == "robot"
    with refused_for("OPERATORS_ONLY"):
        scene.bob.fork("robot", generation, source_owner="ann")
    own = scene.bob.create(session="own")
    forked = scene.bob.fork("own", own.generation, session="robot", request_id=REQUEST_ID)
    assert (forked.owner, forked.next_step) == ("bob", 0)


def migrate(scene: Scene) -> None:
    """Neither is it migrated, nor is its state taken."""
    with refused_for("SESSION_UNKNOWN"):
        scene.bob.migrate("robot", scene.session.generation)
    own = scene.bob.create(session="own")
    with refused_for("SESSION_UNKNOWN") as metadata:
        scene.bob.migrate(
            "own",
            own.generation,
            state_session="robot",
            state_generation=scene.session.generation,
        )
    assert metadata["session"] == "robot"


def list_sessions(scene: Scene) -> None:
    own = scene.bob.create(session="zed")
    for page_size in (1, 50):
        token, seen = "", []
        while True:
            request = pb.ListSessionsRequest(page_size=page_size, page_token=token)
            page = scene.bob.call(scene.bob.sessions.ListSessions, request)
            seen += page.sessions
            token = page.next_page_token
            if not token:
                break
        assert seen == [own]
    # Nor do the places of somebody else's pages lead there.
    first = scene.operator.call(
        scene.operator.sessions.ListSessions, pb.ListSessionsRequest(page_size=1)
    )
    assert first.sessions[0].owner == "ann"
    request = pb.ListSessionsRequest(page_token=first.next_page_token)
    assert scene.session.id not in [
        each.id for each in scene.bob.call(scene.bob.sessions.ListSessions, request).sessions
    ]


def step_on_a_stream(scene: Scene) -> None:
    with StreamPath(scene.bob) as stream:
        for step in (3, 0, 2, 4):
            with refused_for("SESSION_UNKNOWN"):
                stream.send(scene.request(stream, step))


def step_together(scene: Scene) -> None:
    """Beside a session of bob's own, which steps on."""
    own = scene.bob.create(session="zed")
    with TogetherPath(scene.bob) as path:
        for step, anns in enumerate((3, 0, 2, 4)):
            requests = [
                scene.request(path, anns),
                scene.request(path, step, session=own.id, generation=own.generation),
            ]
            refused, answer = path.send_all(requests)
            assert Refused(refused.error).reason == "SESSION_UNKNOWN"
            assert answer.step_count == 1


def shows_nothing(request: Message, method: str) -> Callable[[Scene], None]:
    """Returns the case of a unary call whose answer must say nothing of ann's session."""

    def case(scene: Scene) -> None:
        call: Any = scene.bob.channel.unary_unary(method)
        answer = call(request.SerializeToString(), timeout=30)
        for secret in ("robot", "ann's own"):
            assert secret.encode() not in answer

    return case


def for_operators(request: Message, method: str) -> Callable[[Scene], None]:
    """Returns the case of a unary call that bob may not make, and an operator may."""

    def case(scene: Scene) -> None:
        with refused_for("OPERATORS_ONLY") as metadata:
            scene.bob.call(getattr(scene.bob.models, method), request)
        assert metadata == {"caller": "token:bob", "role": "client"}

    return case


def watch_health(scene: Scene) -> None:
    method: Any = scene.bob.channel.unary_stream("/grpc.health.v1.Health/Watch")
    call = method(health_pb2.HealthCheckRequest().SerializeToString())
    assert len(next(call)) == 2
    call.cancel()


def reflect(scene: Scene) -> None:
    method: Any = scene.bob.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    (answer,) = method(iter([request.SerializeToString()]), timeout=30)
    assert b"robot" not in answer


# What bob does with ann's sequence of the Open Inference Protocol.

SEQUENCE, LIFE = 7, "00000000-0000-0000-0000-000000000007"


@contextlib.contextmanager
def sequence_of_ann(scene: Scene) -> Iterator[None]:
    """A sequence that goes on afterwards as if nothing had been."""
    ann = Peer(channel=scene.ann.channel)
    ann.infer(SEQUENCE, start=True, life=LIFE, step=0)
    yield
    assert ann.infer(SEQUENCE, [5.0], life=LIFE, step=1) == [1005.0]


def infer(scene: Scene) -> None:
    """The same correlation id, and even the same life, is a sequence of bob's own."""
    with sequence_of_ann(scene):
        meddle(Peer(channel=scene.bob.channel))


def infer_on_a_stream(scene: Scene) -> None:
    with sequence_of_ann(scene), PeerStream(Peer(channel=scene.bob.channel)) as stream:
        meddle(stream)


def meddle(bob: Peer | PeerStream) -> None:
    """Tries to go on with a sequence and to end it, then starts one of that name."""
    ways: tuple[dict[str, Any], ...] = ({}, {"life": LIFE, "step": 0}, {"life": LIFE, "step": 1})
    for options in ways:
        for end in (False, True):
            with pytest.raises(NotInferred, match="SESSION_UNKNOWN"):
                bob.infer(SEQUENCE, end=end, **options)
    assert bob.infer(SEQUENCE, [9.0], start=True, life=LIFE, step=0) == [9.0]
    assert bob.infer(SEQUENCE, [9.0], end=True, life=LIFE, step=1) == [1009.0]


def not_for_clients(request: Message, method: str) -> Callable[[Scene], None]:
    """Returns the case of a call that only an operator may make."""

    def case(scene: Scene) -> None:
        with pytest.raises(NotInferred, match="which only operators may; token:bob is a client"):
            Peer(channel=scene.bob.channel).call(method, request)

    return case


def not_served(method: str) -> Callable[[Scene], None]:
    """Returns the case of a method that is served to nobody."""

    def case(scene: Scene) -> None:
        with pytest.raises(NotInferred) as refused:
            Peer(channel=scene.bob.channel).ask(method)
        assert refused.value.code == "UNIMPLEMENTED"

    return case


SESSIONS, MODELS = "/tickcell.v1.SessionService/", "/tickcell.v1.ModelService/"
INFERENCE = f"/{SERVICE}/"
CASES: dict[str, Callable[[Scene], None]] = {
    f"{SESSIONS}CreateSession": create,
    f"{SESSIONS}GetSession": unknown(lambda scene: scene.bob.get("robot")),
    f"{SESSIONS}ListSessions": list_sessions,
    f"{SESSIONS}TouchSession": unknown(
        lambda scene: scene.bob.touch("robot", scene.session.generation)
    ),
    f"{SESSIONS}ResetSession": unknown(
        lambda scene: scene.bob.reset("robot", scene.session.generation, str(uuid.uuid4()))
    ),
    f"{SESSIONS}ClaimSession": unknown(
        lambda scene: scene.bob.claim("robot", scene.session.generation)
    ),
    f"{SESSIONS}ForkSession": fork,
    f"{SESSIONS}ExportSession": unknown(
        lambda scene: scene.bob.export("robot", scene.session.generation)
    ),
    f"{SESSIONS}MigrateSession": migrate,
    f"{SESSIONS}PreviewSteps": unknown(
        lambda scene: scene.bob.preview(
            "robot", scene.session.generation, step=3, step_count=1, frames=[1.0]
        )
    ),
    f"{SESSIONS}GetOutputs": unknown(
        lambda scene: scene.bob.outputs("robot", scene.session.generation)
    ),
    f"{SESSIONS}DeleteSession": unknown(
        lambda scene: scene.bob.delete("robot", scene.session.generation)
    ),
    f"{SESSIONS}StepSession": unknown(lambda scene: scene.step(scene.bob, 3)),
    f"{SESSIONS}StreamSteps": step_on_a_stream,
    f"{SESSIONS}StepSessions": step_together,
    f"{MODELS}ListModels": shows_nothing(
        model_service_pb2.ListModelsRequest(), f"{MODELS}ListModels"
    ),
    f"{MODELS}GetModel": shows_nothing(model_service_pb2.GetModelRequest(), f"{MODELS}GetModel"),
    f"{MODELS}ListModelVersions": for_operators(
        model_service_pb2.ListModelVersionsRequest(), "ListModelVersions"
    ),
    f"{MODELS}LoadModel": for_operators(
        model_service_pb2.LoadModelRequest(name="counting"), "LoadModel"
    ),
    f"{MODELS}UnloadModel": for_operators(
        model_service_pb2.UnloadModelRequest(name="counting"), "UnloadModel"
    ),
    f"{INFERENCE}ModelInfer": infer,
    f"{INFERENCE}ModelStreamInfer": infer_on_a_stream,
    **{
        f"{INFERENCE}{method}": shows_nothing(
            getattr(oip_pb, f"{method}Request")(**fields), f"{INFERENCE}{method}"
        )
        for method, fields in {
            "ServerLive": {},
            "ServerReady": {},
            "ServerMetadata": {},
            "ModelReady": {"name": "counting"},
            "ModelMetadata": {"name": "counting"},
            "ModelConfig": {"name": "counting"},
            "ModelStatistics": {},
            "RepositoryIndex": {},
        }.items()
    },
    **{
        f"{INFERENCE}{method}": not_for_clients(
            getattr(oip_pb, f"{method}Request")(model_name="counting"), method
        )
        for method in ("RepositoryModelLoad", "RepositoryModelUnload")
    },
    **{
        f"{INFERENCE}{method}": not_served(method)
        for method in (
            *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister"),
            *("SystemSharedMemoryUnregister", "CudaSharedMemoryStatus"),
            *("CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
            *("TraceSetting", "LogSettings"),
        )
    },
    "/grpc.health.v1.Health/Check": shows_nothing(
        health_pb2.HealthCheckRequest(), "/grpc.health.v1.Health/Check"
    ),
    "/grpc.health.v1.Health/Watch": watch_health,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reflect,
}

# Who is nobody may ask these alone: what probes and tools look at before they know anything.
OPEN_TO_ALL = (
    *("/grpc.health.v1.", "/grpc.reflection.v1alpha."),
    *(f"{INFERENCE}ServerLive", f"{INFERENCE}ServerReady"),
)


def described(service: str) -> set[str]:
    """Returns the methods that the descriptor of a service has."""
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return {method.name for method in descriptor.methods}


def test_every_rpc_has_a_case(scene: Scene) -> None:
    services = scene.server.services
    # A method of a descriptor that is not served is served nowhere; let nobody forget it here.
    assert services == {service: described(service) for service in services}
    served_methods = {
        f"/{service}/{method}" for service, methods in services.items() for method in methods
    }
    assert served_methods == {*CASES}


@pytest.mark.parametrize("rpc", CASES)
def test_another_owners_session_is_not_reached_by(rpc: str, scene: Scene) -> None:
    before = scene.ann.get(scene.session.id)
    CASES[rpc](scene)
    scene.is_untouched(before)


@pytest.mark.parametrize("rpc", CASES)
def test_nobody_gets_no_further_than_the_gate_by(rpc: str, scene: Scene) -> None:
    before = scene.ann.get(scene.session.id)
    with Caller(scene.server.address) as nobody:
        # Of all kinds of methods, those of streams answer an empty request like others.
        call: Any = nobody.channel.stream_stream(rpc)
        try:
            answers = [next(call(iter([b""]), timeout=30))]
        except grpc.RpcError as error:
            answers = [refusal(error)]
    if rpc.startswith(OPEN_TO_ALL):
        assert not isinstance(answers[0], Refused) or answers[0].reason != "CALLER_UNKNOWN"
    else:
        assert [each.reason for each in answers] == ["CALLER_UNKNOWN"]
    scene.is_untouched(before)


@pytest.mark.parametrize("path", PATHS)
def test_what_bob_knows_of_a_tombstone_is_nothing_too(path: str, scene: Scene) -> None:
    scene.ann.delete("robot", scene.session.generation)
    with refused_for("SESSION_DELETED"):
        scene.ann.get("robot")
    with PATHS[path](scene.bob) as stepping, refused_for("SESSION_UNKNOWN"):
        stepping.send(scene.request(stepping, 3))
    with refused_for("SESSION_UNKNOWN"):
        scene.bob.get("robot")


class TestOperator:
    def test_sees_the_sessions_of_all(self, scene: Scene) -> None:
        scene.bob.create(session="a")
        scene.operator.create(session="m")
        everybody = ["ann/robot", "bob/a", "token:operator/m"]
        for page_size in (1, 2, 50):
            assert _listed(scene.operator, page_size=page_size) == everybody
        assert _listed(scene.operator, owner="bob") == ["bob/a"]
        assert _listed(scene.operator, owner="token:operator") == ["token:operator/m"]
        assert _listed(scene.operator, owner="nobody") == []

    def test_looks_at_renews_claims_resets_and_deletes_anybodys(self, scene: Scene) -> None:
        ops = scene.operator
        named: dict[str, Any] = {"session": "robot", "owner": "ann"}
        sessions = ops.sessions
        shown = ops.call(sessions.GetSession, pb.GetSessionRequest(**named)).session
        assert (shown.owner, shown.next_step) == ("ann", 3)
        life = {**named, "generation": scene.session.generation}
        ops.call(sessions.TouchSession, pb.TouchSessionRequest(**life))
        kept = ops.call(sessions.GetOutputs, pb.GetOutputsRequest(**life))
        assert list(kept.outputs) == [1.0, 1001.0, 2001.0]
        claim = pb.ClaimSessionRequest(request_id=str(uuid.uuid4()), **life)
        life["generation"] = ops.call(sessions.ClaimSession, claim).session.generation
        request = pb.ResetSessionRequest(request_id=str(uuid.uuid4()), **life)
        begun = ops.call(sessions.ResetSession, request).session
        assert begun.owner == "ann"
        life["generation"] = begun.generation
        ops.call(sessions.DeleteSession, pb.DeleteSessionRequest(**life))
        with refused_for("SESSION_DELETED"):
            scene.ann.get("robot")

    def test_forks_anybodys_and_has_the_fork(self, scene: Scene) -> None:
        forked = scene.operator.fork("robot", scene.session.generation, source_owner="ann")
        assert (forked.owner, forked.next_step) == ("token:operator", 3)
        assert _listed(scene.operator, owner="ann") == ["ann/robot"]

    def test_does_not_mean_anybodys_without_a_name(self, scene: Scene) -> None:
        with refused_for("SESSION_UNKNOWN"):
            scene.operator.get("robot")

    @pytest.mark.parametrize(
        "name",
        [
            *("GetSession", "ListSessions", "TouchSession", "ResetSession", "ClaimSession"),
            *("ExportSession", "MigrateSession", "DeleteSession", "GetOutputs"),
        ],
    )
    def test_alone_names_another_owner(self, name: str, scene: Scene) -> None:
        before = scene.ann.get("robot")
        request = getattr(pb, f"{name}Request")()
        known = {
            "owner": "ann",
            "session": "robot",
            "generation": scene.session.generation,
            "request_id": str(uuid.uuid4()),
        }
        for field in request.DESCRIPTOR.fields_by_name.keys() & known.keys():
            setattr(request, field, known[field])
        with refused_for("OPERATORS_ONLY") as metadata:
            scene.bob.call(getattr(scene.bob.sessions, name), request)
        assert (metadata["caller"], metadata["role"]) == ("token:bob", "client")
        scene.is_untouched(before)

    def test_is_not_needed_to_name_oneself(self, scene: Scene) -> None:
        assert _listed(scene.ann, owner="ann") == ["ann/robot"]


def _listed(caller: Caller, page_size: int = 0, owner: str = "") -> list[str]:
    token, seen = "", []
    while True:
        request = pb.ListSessionsRequest(page_size=page_size, page_token=token, owner=owner)
        page = caller.call(caller.sessions.ListSessions, request)
        seen += [f"{each.owner}/{each.id}" for each in page.sessions]
        token = page.next_page_token
        if not token:
            return seen
