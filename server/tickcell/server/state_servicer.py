"""The methods of SessionService that take a session's state as a value."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tickcell import wire
from tickcell.server import calls, exports, messages
from tickcell.server.session_servicer import meant, naming_store
from tickcell.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tickcell.server.caller import Caller
    from tickcell.server.config import Config
    from tickcell.server.engine import Engine
    from tickcell.server.record import Record
    from tickcell.server.seal import Seal
    from tickcell.server.store.contract import Key

# To parse or to turn more than this takes long enough to wait for its turn.
_LONG_BYTES = 64 * 1024


class StateServicer:
    """Claims, forks, exports and migrates sessions, reads outputs, and previews steps."""

    def __init__(self, gate: calls.Gate, config: Config, engine: Engine, seal: Seal) -> None:
        self._gate = gate
        self._config = config
        self._engine = engine
        self._seal = seal

    def methods(self) -> dict[str, calls.Handler]:
        """Returns the methods' handlers by name."""
        return {
            "ClaimSession": self._method(pb.ClaimSessionRequest, self._claim),
            "ForkSession": self._method(pb.ForkSessionRequest, self._fork),
            "ExportSession": self._method(pb.ExportSessionRequest, self._export),
            "MigrateSession": self._method(pb.MigrateSessionRequest, self._migrate),
            "GetOutputs": self._method(pb.GetOutputsRequest, self._get_outputs),
            "PreviewSteps": calls.unary_bytes(self._gate, "PreviewStepsRequest", self._preview),
        }

    def _method(self, request_class: Any, answer: Any) -> calls.Handler:
        return calls.unary(self._gate, request_class, naming_store(self._engine, answer))

    def _shown(self, key: Key, current: Record) -> pb.Session:
        return messages.session(key, current, self._engine.store_id)

    async def _claim(
        self, caller: Caller, request: pb.ClaimSessionRequest
    ) -> pb.ClaimSessionResponse:
        session = messages.session_id(request.session)
        request_id = messages.request_id(request.request_id)
        generation = messages.claimed_generation(request)
        caller = meant(caller, request)
        claimed = await self._engine.claim(caller, session, generation, request_id)
        return pb.ClaimSessionResponse(session=self._shown(caller.key(session), claimed))

    async def _fork(self, caller: Caller, request: pb.ForkSessionRequest) -> pb.ForkSessionResponse:
        source = messages.session_id(request.source, "source")
        generation = messages.generation(request, "source_generation")
        step = request.step if request.HasField("step") else None
        wanted = messages.fork(request, self._config)
        owner = request.source_owner
        its_owner = caller.acting_for(owner) if owner else caller
        forked = await self._engine.fork(its_owner.key(source), generation, step, caller, wanted)
        return pb.ForkSessionResponse(session=self._shown(caller.key(wanted.session), forked))

    async def _export(
        self, caller: Caller, request: pb.ExportSessionRequest
    ) -> pb.ExportSessionResponse:
        session = messages.session_id(request.session)
        generation = messages.generation(request)
        ends_by = messages.request_id(request.request_id) if request.end else ""
        caller = meant(caller, request)
        found, model = await self._engine.export(caller, session, generation, ends_by)
        exported = exports.export(
            session, found, model.cell.interface, self._seal, has_window=request.window
        )
        return pb.ExportSessionResponse(export=exported, store_id=self._engine.store_id)

    async def _migrate(
        self, caller: Caller, request: pb.MigrateSessionRequest
    ) -> pb.MigrateSessionResponse:
        session = messages.session_id(request.session)
        generation = messages.generation(request)
        request_id = messages.request_id(request.request_id)
        burn_in = messages.burn_in(request)
        caller = meant(caller, request)
        migrated = await self._engine.migrate(
            caller, session, generation, request_id, request.model_version, burn_in
        )
        return pb.MigrateSessionResponse(session=self._shown(caller.key(session), migrated))

    async def _get_outputs(self, caller: Caller, request: pb.GetOutputsRequest) -> bytes:
        session = messages.session_id(request.session)
        generation = messages.generation(request)
        caller = meant(caller, request)
        first_step = request.first_step if request.HasField("first_step") else None
        kept = await self._engine.read_outputs(
            caller, session, generation, first_step, request.step_count
        )
        return messages.outputs(session, kept, self._engine.store_id)

    async def _preview(self, caller: Caller, encoded: bytes) -> Message | bytes:
        message = await self._in_slice(encoded, functools.partial(_parse, encoded))
        return await naming_store(self._engine, self._previewed)(caller, message)

    async def _previewed(self, caller: Caller, message: Any) -> bytes:
        request = messages.preview(message, caller)
        previewed = await self._engine.preview(request)
        answer = functools.partial(messages.previewed, request, previewed, self._engine.store_id)
        encoded_answer: bytes = await self._in_slice(previewed.outputs, answer)
        return encoded_answer

    async def _in_slice(self, worked_on: bytes, work: Any) -> Any:
        """Does some work on bytes, in a slice of its own where they are many."""
        return work() if len(worked_on) <= _LONG_BYTES else await self._engine.in_slice(work)


def _parse(encoded: bytes) -> Any:
    try:
        return wire.parse(wire.PreviewStepsRequest, encoded)
    except wire.DecodeError as error:
        raise calls.malformed("PreviewStepsRequest", error) from error
