"""The unary calls about sessions and models, each safe to send again.

Each is an operation: `Link.do` does it with threads, `AsyncLink.run` with asyncio.
"""

from __future__ import annotations

import functools
import math
import uuid
from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2

from tickcell import wire
from tickcell.client import arguments, export_file, methods, resources
from tickcell.v1 import model_service_pb2, session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from tickcell.client.life import Chunk, Life
    from tickcell.client.methods import Method
    from tickcell.client.needs import Operation
    from tickcell.client.resources import Model, ModelVersion, SessionInfo
    from tickcell.client.route import Failed, Route


def create_session(
    route: Route,
    session: str = "",
    *,
    model: str = "",
    model_version: str = "",
    series_count: int | None = None,
    window: int = 0,
    idle_ttl_s: float | None = None,
    labels: Mapping[str, str] | None = None,
    export: bytes | None = None,
) -> Operation[SessionInfo]:
    """Creates a session; the arguments are those of `Session.create`.

    Raises:
      UsageError: an argument is invalid.
      ExportFileError: the export is none, or damaged.
      ExportRefusedError: it is of a model that is not served, or not signed by the server's key.
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
        series_count=(
            0 if series_count is None else arguments.count("series_count", series_count, lowest=1)
        ),
        window_step_count=arguments.count("window", window, lowest=0),
        idle_ttl_duration=duration(idle_ttl_s),
        never_expires=idle_ttl_s == math.inf,
        labels=arguments.labels(labels),
        export=None if export is None else export_file.decode(export),
    )
    response = yield from route.call(methods.CREATE_SESSION, request)
    return resources.session_info(response.session)


def get_session(route: Route, session: str, *, owner: str = "") -> Operation[SessionInfo]:
    """Gets a session; changes nothing.

    Args:
      route: the way to the server.
      session: its id.
      owner: whose it is, as operators may say; "" for the caller's own.

    Raises:
      SessionEndedError: no session of this id is alive.
      OperatorsOnlyError: it is another owner's, and the caller no operator.
    """
    request = session_service_pb2.GetSessionRequest(
        session=arguments.text("session", session), owner=arguments.text("owner", owner)
    )
    response = yield from route.call(methods.GET_SESSION, request)
    return resources.session_info(response.session)


def list_sessions(route: Route, *, owner: str = "") -> Operation[list[SessionInfo]]:
    """Lists the live sessions, by owner and id.

    Args:
      route: the way to the server.
      owner: whose, as operators may say; "" for all that the caller may see.

    Raises:
      OperatorsOnlyError: it is another owner, and the caller no operator.
    """
    request = functools.partial(
        session_service_pb2.ListSessionsRequest, owner=arguments.text("owner", owner)
    )
    pages = yield from _pages(route, methods.LIST_SESSIONS, request)
    return [resources.session_info(each) for page in pages for each in page.sessions]


def touch_session(route: Route, session: str, generation: int) -> Operation[SessionInfo]:
    """Renews a session's time to live.

    Raises:
      SessionEndedError: it is not alive.
      SessionRestartedError: it lives in another generation.
    """
    request = session_service_pb2.TouchSessionRequest(session=session, generation=generation)
    response = yield from route.call(methods.TOUCH_SESSION, request)
    return resources.session_info(response.session)


def reset_session(
    route: Route, session: str, generation: int, *, owner: str = ""
) -> Operation[SessionInfo]:
    """Starts a session again from step 0, under a new generation.

    Args:
      route: the way to the server.
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
    response = yield from route.call(methods.RESET_SESSION, request)
    return resources.session_info(response.session)


def delete_session(
    route: Route, session: str, generation: int, *, owner: str = ""
) -> Operation[None]:
    """Deletes a session; a second time, too.

    Args:
      route: the way to the server.
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
    yield from route.call(methods.DELETE_SESSION, request)


def step_session(
    route: Route, life: Life, chunk: Chunk, failed: Failed | None = None
) -> Operation[tuple[bytes, bytes]]:
    """Advances a session by a chunk.

    Args:
      route: the way to the server.
      life: of the session.
      chunk: the next steps.
      failed: how they were sent in another way before, if they were.

    Returns:
      The outputs, `[T, B, O]` float32, little-endian, and the history after them.

    Raises:
      RefusedError: the chunk was refused.
      ReplyError: the reply is to something else.
    """
    request = life.request(wire.StepSessionRequest, chunk)
    reply = yield from route.call(methods.STEP_SESSION, request, failed)
    return life.outputs(reply, chunk), reply.history


def get_model(route: Route, name: str = "", version: str = "") -> Operation[Model]:
    """Gets a model; without its name the only one, without its version the newest.

    Raises:
      ModelUnknownError: it is not served.
    """
    request = model_service_pb2.GetModelRequest(name=name, version=version)
    response = yield from route.call(methods.GET_MODEL, request)
    return resources.model(response.model)


def list_models(route: Route) -> Operation[list[Model]]:
    """Lists the models that are served, by name, then version."""
    pages = yield from _pages(route, methods.LIST_MODELS, model_service_pb2.ListModelsRequest)
    return [resources.model(each) for page in pages for each in page.models]


def list_model_versions(route: Route) -> Operation[list[ModelVersion]]:
    """Lists every version that a server knows of, by name, then version."""
    request = model_service_pb2.ListModelVersionsRequest
    pages = yield from _pages(route, methods.LIST_MODEL_VERSIONS, request)
    return [resources.model_version(each) for page in pages for each in page.model_versions]


def load_model(route: Route, name: str, version: str = "") -> Operation[ModelVersion]:
    """Has a version of the repository loaded, and given to new sessions.

    Args:
      route: the way to the server.
      name: of the model.
      version: empty for the newest in the repository.

    Raises:
      ModelUnknownError: the repository does not have it.
      ModelBrokenError: it cannot be served.
      ModelsUncontrolledError: the server does not run with explicit model control.
    """
    request = model_service_pb2.LoadModelRequest(name=name, version=version)
    response = yield from route.call(methods.LOAD_MODEL, request)
    return resources.model_version(response.model_version)


def unload_model(route: Route, name: str, version: str = "") -> Operation[list[ModelVersion]]:
    """Has versions given to no new session any more; those that have them go on.

    Args:
      route: the way to the server.
      name: of the model.
      version: empty for all that are given to new sessions.

    Raises:
      ModelUnknownError: no such version is given to new sessions.
      ModelsUncontrolledError: the server does not run with explicit model control.
    """
    request = model_service_pb2.UnloadModelRequest(name=name, version=version)
    response = yield from route.call(methods.UNLOAD_MODEL, request)
    return list(map(resources.model_version, response.model_versions))


def _pages(route: Route, method: Method, request: Callable[..., Message]) -> Operation[list[Any]]:
    pages = []
    token = ""
    while True:
        page = yield from route.call(method, request(page_size=1000, page_token=token))
        pages.append(page)
        token = page.next_page_token
        if not token:
            return pages


def duration(idle_ttl_s: float | None) -> duration_pb2.Duration | None:
    """Returns a time to live as the wire has it; None for the server's own, and for ever."""
    if idle_ttl_s is None or idle_ttl_s == math.inf:
        return None
    seconds = math.floor(idle_ttl_s)
    return duration_pb2.Duration(seconds=seconds, nanos=int((idle_ttl_s - seconds) * 1e9))
