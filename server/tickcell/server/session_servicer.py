"""The methods of SessionService that begin, show and end lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.server import calls, messages
from tickcell.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from tickcell.server.catalogue import Catalogue
    from tickcell.server.config import Config
    from tickcell.server.sessions import Sessions


class SessionServicer:
    """Creates, gets, lists, touches, resets and deletes sessions."""

    def __init__(
        self, gate: calls.Gate, config: Config, sessions: Sessions, catalogue: Catalogue
    ) -> None:
        self._gate = gate
        self._config = config
        self._sessions = sessions
        self._catalogue = catalogue

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "CreateSession": calls.unary(self._gate, pb.CreateSessionRequest, self._create),
            "GetSession": calls.unary(self._gate, pb.GetSessionRequest, self._get),
            "ListSessions": calls.unary(self._gate, pb.ListSessionsRequest, self._list),
            "TouchSession": calls.unary(self._gate, pb.TouchSessionRequest, self._touch),
            "ResetSession": calls.unary(self._gate, pb.ResetSessionRequest, self._reset),
            "DeleteSession": calls.unary(self._gate, pb.DeleteSessionRequest, self._delete),
        }

    def _create(self, request: pb.CreateSessionRequest) -> pb.CreateSessionResponse:
        model = self._catalogue.find(request.model, request.model_version)
        wanted = messages.creation(request, self._config)
        created = self._sessions.create(model, wanted)
        return pb.CreateSessionResponse(session=messages.session(wanted.session, created))

    def _get(self, request: pb.GetSessionRequest) -> pb.GetSessionResponse:
        session = messages.session_id(request.session)
        found = self._sessions.get(session)
        return pb.GetSessionResponse(session=messages.session(session, found))

    def _list(self, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        after, size = messages.page(request)
        found, last = self._sessions.list(after, size)
        return pb.ListSessionsResponse(
            sessions=[messages.session(session, current) for session, current in found],
            next_page_token=messages.page_token(last),
        )

    def _touch(self, request: pb.TouchSessionRequest) -> pb.TouchSessionResponse:
        session = messages.session_id(request.session)
        touched = self._sessions.touch(session, messages.generation(request))
        return pb.TouchSessionResponse(session=messages.session(session, touched))

    def _reset(self, request: pb.ResetSessionRequest) -> pb.ResetSessionResponse:
        session = messages.session_id(request.session)
        request_id = messages.request_id(request.request_id)
        started = self._sessions.reset(session, messages.generation(request), request_id)
        return pb.ResetSessionResponse(session=messages.session(session, started))

    def _delete(self, request: pb.DeleteSessionRequest) -> pb.DeleteSessionResponse:
        session = messages.session_id(request.session)
        self._sessions.delete(session, messages.generation(request))
        return pb.DeleteSessionResponse()
