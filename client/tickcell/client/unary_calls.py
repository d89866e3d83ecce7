"""The unary calls about sessions and models, each safe to send again."""

from __future__ import annotations

import functools
import math
import uuid
from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2

from tickcell import wire
from tickcell.client import arguments, methods, resources
from tickcell.v1 import model_service_pb2, session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from google.protobuf.message import Message

    from tickcell.client.life import Chunk, Life
    from tickcell.client.link import Link
    from tickcell.client.methods import Method
    from tickcell.client.resources import Model, ModelVersion, SessionInfo


def create_session(
    link: Link,
    session: str = "",
    *,
    model: str = "",
    model_version: str = "",
    series_count: int = 1,
    window: int = 0,
    idle_ttl_s: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> SessionInfo:
    """Creates a session; the arguments are those of `Session.create`.

    Raises:
      UsageError: an argument cannot be meant.
      SessionExistsError: a live session has this id.
    """
    if idle_ttl_s is not None:
        idle_ttl_s = arguments.seconds("idle_ttl_s", idle_ttl_s, above=0.0)
    request_id = str(uuid.uuid4())
    request = session_service_pb2.CreateSessionRequest(
        # As the server would name it; a proxy in between has to know it too.
        session=arguments.text("session", session) or request_id,
        request_id=request_id,
        model=arguments.text("model", model),
        model_version=arguments.text("model_version", model_version),
        series_count=arguments.count("series_count", series_count, lowest=1),
        window_step_count=arguments.count("window", window, lowest=0),
        idle_ttl_duration=_duration(idle_ttl_s),
        never_expires=idle_ttl_s == math.inf,
        labels=arguments.labels(labels),
    )
    return resources.session_info(link.call(methods.CREATE_SESSION, request).session)


def get_session(link: Link, session: str, *, owner: str = "") -> SessionInfo:
    """Gets a session; changes nothing.

    Args:
      link: the way to the server.
      session: its id.
      owner: whose it is, as operators may say; "" for the caller's own.

    Raises:
      SessionEndedError: no session of this id is alive.
      OperatorsOnlyError: it is another owner's, and the caller no operator.
    """
    request = session_service_pb2.GetSessionRequest(
        session=arguments.text("session", session), owner=arguments.text("owner", owner)
    )
    return resources.session_info(link.call(methods.GET_SESSION, request).session)


def list_sessions(link: Link, *, owner: str = "") -> Iterator[SessionInfo]:
    """Lists the live sessions, by owner and id.

    Args:
      link: the way to the server.
      owner: whose, as operators may say; "" for all that the caller may see.

    Raises:
      OperatorsOnlyError: it is another owner, and the caller no operator.
    """
    request = functools.partial(
        session_service_pb2.ListSessionsRequest, owner=arguments.text("owner", owner)
    )
    for page in _pages(link, methods.LIST_SESSIONS, request):
        yield from map(resources.session_info, page.sessions)


def touch_session(link: Link, session: str, generation: int) -> SessionInfo:
    """Renews a session's time to live.

    Raises:
      SessionEndedError: it is not alive.
      SessionRestartedError: it lives in another generation.
    """
    request = session_service_pb2.TouchSessionRequest(session=session, generation=generation)
    return resources.session_info(link.call(methods.TOUCH_SESSION, request).session)


def reset_session(link: Link, session: str, generation: int, *, owner: str = "") -> SessionInfo:
    """Starts a session again from step 0, under a new generation.

    Args:
      link: the way to the server.
      session: its id.
      generation: the one that ends.
      owner: as for `get_session`.

    Raises:
      SessionEndedError: it is not alive.
      SessionRestartedError: it lives in another generation.
    """
    request = session_service_pb2.ResetSessionRequest(
        session=session, generation=generation, request_id=str(uuid.uuid4()), owner=owner
    )
    return resources.session_info(link.call(methods.RESET_SESSION, request).session)


def delete_session(link: Link, session: str, generation: int, *, owner: str = "") -> None:
    """Deletes a session; a second time, too.

    Args:
      link: the way to the server.
      session: its id.
      generation: the one that ends.
      owner: as for `get_session`.

    Raises:
      SessionEndedError: it ended otherwise.
      SessionRestartedError: it lives in another generation.
    """
    request = session_service_pb2.DeleteSessionRequest(
        session=session, generation=generation, owner=owner
    )
    link.call(methods.DELETE_SESSION, request)


def step_session(link: Link, life: Life, chunk: Chunk) -> tuple[bytes, bytes]:
    """Advances a session by a chunk.

    Returns:
      The outputs, `[T, B, O]` float32, little-endian, and the history after them.

    Raises:
      RefusedError: the chunk was refused.
      ReplyError: the reply is to something else.
    """
    request = life.request(wire.StepSessionRequest, chunk)
    reply = link.call(methods.STEP_SESSION, request)
    return life.outputs(reply, chunk), reply.history


def get_model(link: Link, name: str = "", version: str = "") -> Model:
    """Gets a model; without its name the only one, without its version the newest.

    Raises:
      ModelUnknownError: it is not served.
    """
    request = model_service_pb2.GetModelRequest(name=name, version=version)
    return resources.model(link.call(methods.GET_MODEL, request).model)


def list_models(link: Link) -> Iterator[Model]:
    """Lists the models that are served, by name, then version."""
    for page in _pages(link, methods.LIST_MODELS, model_service_pb2.ListModelsRequest):
        yield from map(resources.model, page.models)


def list_model_versions(link: Link) -> Iterator[ModelVersion]:
    """Lists every version that a server knows of, by name, then version."""
    request = model_service_pb2.ListModelVersionsRequest
    for page in _pages(link, methods.LIST_MODEL_VERSIONS, request):
        yield from map(resources.model_version, page.model_versions)


def load_model(link: Link, name: str, version: str = "") -> ModelVersion:
    """Has a version of the repository loaded, and given to new sessions.

    Args:
      link: the way to the server.
      name: of the model.
      version: empty for the newest in the repository.

    Raises:
      ModelUnknownError: the repository does not have it.
      ModelBrokenError: it cannot be served.
      ModelsUncontrolledError: the server does not run with explicit model control.
    """
    request = model_service_pb2.LoadModelRequest(name=name, version=version)
    return resources.model_version(link.call(methods.LOAD_MODEL, request).model_version)


def unload_model(link: Link, name: str, version: str = "") -> list[ModelVersion]:
    """Has versions given to no new session any more; those that have them go on.

    Args:
      link: the way to the server.
      name: of the model.
      version: empty for all that are given to new sessions.

    Raises:
      ModelUnknownError: no such version is given to new sessions.
      ModelsUncontrolledError: the server does not run with explicit model control.
    """
    request = model_service_pb2.UnloadModelRequest(name=name, version=version)
    response = link.call(methods.UNLOAD_MODEL, request)
    return list(map(resources.model_version, response.model_versions))


def _pages(link: Link, method: Method, request: Callable[..., Message]) -> Iterator[Any]:
    token = ""
    while True:
        page = link.call(method, request(page_size=1000, page_token=token))
        yield page
        token = page.next_page_token
        if not token:
            return


def _duration(idle_ttl_s: float | None) -> duration_pb2.Duration | None:
    if idle_ttl_s is None or idle_ttl_s == math.inf:
        return None
    seconds = math.floor(idle_ttl_s)
    return duration_pb2.Duration(seconds=seconds, nanos=int((idle_ttl_s - seconds) * 1e9))
