"""The methods of SessionService that begin, show and end lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from tickcell.server import calls, errors, exports, messages
from tickcell.server.store.contract import Key
from tickcell.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from tickcell.server.caller import Caller
    from tickcell.server.config import Config
    from tickcell.server.engine import Engine
    from tickcell.server.record import Record
    from tickcell.server.seal import Seal

_Request = TypeVar("_Request", bound=Message)
_Asked = TypeVar("_Asked")

Answering = Callable[["Caller", _Asked], Awaitable[Message | bytes]]

# In no owner and no id.
_BETWEEN = "\0"


def naming_store(engine: Engine, answer: Answering[_Asked]) -> Answering[_Asked]:
    """Returns how a request is answered so that refusals name the store, as responses do."""

    async def answer_or_refuse(caller: Caller, request: _Asked) -> Message | bytes:
        try:
            return await answer(caller, request)
        except errors.TickcellError as error:
            error.metadata["store_id"] = engine.store_id
            raise

    return answer_or_refuse


class SessionServicer:
    """Creates, gets, lists, touches, resets and deletes sessions."""

    def __init__(self, gate: calls.Gate, config: Config, engine: Engine, seal: Seal) -> None:
        self._gate = gate
        self._config = config
        self._engine = engine
        self._seal = seal

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "CreateSession": self._method(pb.CreateSessionRequest, self._create),
            "GetSession": self._method(pb.GetSessionRequest, self._get),
            "ListSessions": self._method(pb.ListSessionsRequest, self._list),
            "TouchSession": self._method(pb.TouchSessionRequest, self._touch),
            "ResetSession": self._method(pb.ResetSessionRequest, self._reset),
            "DeleteSession": self._method(pb.DeleteSessionRequest, self._delete),
        }

    def _method(self, request_class: type[_Request], answer: Answering[_Request]) -> calls.Handler:
        return calls.unary(self._gate, request_class, naming_store(self._engine, answer))

    def _shown(self, key: Key, current: Record) -> pb.Session:
        return messages.session(key, current, self._engine.store_id)

    async def _create(
        self, caller: Caller, request: pb.CreateSessionRequest
    ) -> pb.CreateSessionResponse:
        if request.HasField("export"):
            return await self._import(caller, request)
        model = self._engine.catalogue.find(request.model, request.model_version)
        start = messages.initial_state(request, model)
        wanted = messages.creation(request, self._config)
        created = await self._engine.create(caller, model, wanted, start, start)
        return pb.CreateSessionResponse(session=self._shown(caller.key(wanted.session), created))

    async def _import(
        self, caller: Caller, request: pb.CreateSessionRequest
    ) -> pb.CreateSessionResponse:
        """Creates a session that goes on where an export is."""
        content = exports.read(request.export, self._seal)
        messages.fill_from_export(request, content)
        model = await self._engine.model_of(content.model_fingerprint)
        if model is None:
            raise self._not_here(content)
        wanted = messages.creation(request, self._config)
        copy = exports.copy(content, model.cell.interface, wanted.window)
        created = await self._engine.create(caller, model, wanted, copy.start, copy.origin)
        return pb.CreateSessionResponse(session=self._shown(caller.key(wanted.session), created))

    def _not_here(self, content: pb.SessionContent) -> errors.TickcellError:
        """Returns the answer to an export of a model that is not served."""
        try:
            model = self._engine.catalogue.get(content.model, content.model_version)
        except errors.ModelUnknown as error:
            return error
        return exports.refused(
            f"its {content.model[:80]} {content.model_version[:80]} is not the one that is served; "
            "serve the bundle with its fingerprint, or migrate the session before exporting it",
            got=content.model_fingerprint[:80],
            expected=model.fingerprint,
        )

    async def _get(self, caller: Caller, request: pb.GetSessionRequest) -> pb.GetSessionResponse:
        session = messages.session_id(request.session)
        caller = meant(caller, request)
        found = await self._engine.get(caller, session)
        return pb.GetSessionResponse(session=self._shown(caller.key(session), found))

    async def _list(self, caller: Caller, request: pb.ListSessionsRequest) -> bytes:
        place, size = messages.page(request)
        is_of_all = caller.role == "operator" and not request.owner
        owner = None if is_of_all else meant(caller, request).owner
        # Of several owners, a place has the owner too.
        first, _, after = place.rpartition(_BETWEEN)
        behind = Key(first if owner is None else owner, after) if place else None
        pieces, last = await self._engine.list_live(owner, behind, size, self._piece)
        rest = pb.ListSessionsResponse(store_id=self._engine.store_id)
        if last is not None:
            place = last.session if owner is not None else _BETWEEN.join(last)
            rest.next_page_token = messages.page_token(place)
        # The bytes of a message are those of its pieces, one after the other.
        return b"".join(pieces) + rest.SerializeToString()

    def _piece(self, found: list[tuple[Key, Record]]) -> bytes:
        sessions = [self._shown(key, current) for key, current in found]
        return pb.ListSessionsResponse(sessions=sessions).SerializeToString()

    async def _touch(
        self, caller: Caller, request: pb.TouchSessionRequest
    ) -> pb.TouchSessionResponse:
        session = messages.session_id(request.session)
        caller = meant(caller, request)
        touched = await self._engine.touch(caller, session, messages.generation(request))
        return pb.TouchSessionResponse(session=self._shown(caller.key(session), touched))

    async def _reset(
        self, caller: Caller, request: pb.ResetSessionRequest
    ) -> pb.ResetSessionResponse:
        session = messages.session_id(request.session)
        request_id = messages.request_id(request.request_id)
        generation = messages.generation(request)
        caller = meant(caller, request)
        begun = await self._engine.reset(caller, session, generation, request_id)
        return pb.ResetSessionResponse(session=self._shown(caller.key(session), begun))

    async def _delete(
        self, caller: Caller, request: pb.DeleteSessionRequest
    ) -> pb.DeleteSessionResponse:
        session = messages.session_id(request.session)
        caller = meant(caller, request)
        await self._engine.delete(caller, session, messages.generation(request))
        return pb.DeleteSessionResponse(store_id=self._engine.store_id)


def meant(caller: Caller, request: Any) -> Caller:
    """Returns the caller as one of the owner that the request names, if it names one.

    Raises:
      OperatorsOnly: it is another one's, and the caller no operator.
    """
    return caller.acting_for(request.owner) if request.owner else caller
