"""Sessions that nobody rightly addresses but their owners, held to the plain loop."""

from __future__ import annotations

import abc
import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from fuzz.targets import MODEL, Attacker, Target
from tickcell.conformance import peer
from tickcell.conformance.caller import PATIENCE_S
from tickcell.model import Cell
from tickcell.v1 import session_service_pb2 as pb

_SESSIONS = "/tickcell.v1.SessionService/"
_PERIOD_S = 0.1


class Moved(Exception):
    """A witness is not where its owner left it."""


class Witness(abc.ABC):
    """A session that its owner advances, and the plain loop beside it.

    Attributes:
      target: by what it could be addressed.
      next_step: how often it has been advanced.
    """

    target: Target

    def __init__(
        self, channel: grpc.aio.Channel, owner: Attacker, cell: Cell, frames: np.ndarray
    ) -> None:
        self._channel = channel
        self._owner = owner
        self._cell = cell
        self._state = cell.initial_state()
        self._frames = frames
        self.next_step = 0

    @abc.abstractmethod
    async def begin(self, name: str) -> None:
        """Begins its life under a name."""

    @abc.abstractmethod
    async def send(self, frame: np.ndarray) -> np.ndarray:
        """Sends its next frame, `[F]`; returns the outputs, `[O]`."""

    async def step(self) -> None:
        """Advances it, and the loop.

        Raises:
          Moved: the outputs are others, or there are none.
        """
        frame = self._frames[self.next_step % len(self._frames)]
        expected, self._state = self._cell.step(frame, self._state)
        try:
            got = await self.send(frame)
        except grpc.aio.AioRpcError as error:
            raise Moved(f"{self.target}: step {self.next_step}: {error.details()}") from error
        if got.tobytes() != np.asarray(expected, np.float32).tobytes():
            raise Moved(f"{self.target}: step {self.next_step} gave {got}, expected {expected}")
        self.next_step += 1

    async def look(self) -> None:
        """Checks that the session is as it should be.

        Raises:
          Moved: it is not.
        """
        request = pb.GetSessionRequest(session=self.target.session)
        encoded = await self._call(f"{_SESSIONS}GetSession", request)
        session = pb.GetSessionResponse.FromString(encoded).session
        got = (session.owner, session.generation, session.next_step)
        expected = (self.target.owner, self.target.generation, self.next_step)
        if got != expected:
            raise Moved(f"{self.target}: got owner, generation and step {got}, not {expected}")

    async def _call(self, path: str, request: Any) -> bytes:
        method: Any = self._channel.unary_unary(path)
        encoded = request.SerializeToString()
        answer: bytes = await method(encoded, metadata=self._owner.metadata, timeout=PATIENCE_S)
        return answer


class Session(Witness):
    """Advanced by StepSession."""

    async def begin(self, name: str) -> None:
        request = pb.CreateSessionRequest(
            session=name, request_id=str(uuid.uuid4()), model=MODEL, never_expires=True
        )
        encoded = await self._call(f"{_SESSIONS}CreateSession", request)
        session = pb.CreateSessionResponse.FromString(encoded).session
        self.target = Target(
            self._owner.owner or "", session.id, session.generation, request.request_id
        )

    async def send(self, frame: np.ndarray) -> np.ndarray:
        response = pb.StepSessionResponse.FromString(
            await self._call(f"{_SESSIONS}StepSession", self._request(pb.StepSessionRequest, frame))
        )
        return np.asarray(response.outputs, np.float32)

    def _request(self, request_class: Any, frame: np.ndarray) -> Any:
        return request_class(
            session=self.target.session,
            generation=self.target.generation,
            first_step=self.next_step,
            step_count=1,
            frames=frame,
        )


class StreamedSession(Session):
    """Advanced by one StreamSteps, which stays open all the while."""

    async def begin(self, name: str) -> None:
        await super().begin(name)
        method: Any = self._channel.stream_stream(f"{_SESSIONS}StreamSteps")
        self._stream = method(metadata=self._owner.metadata)

    async def send(self, frame: np.ndarray) -> np.ndarray:
        request = self._request(pb.StreamStepsRequest, frame)
        await self._stream.write(request.SerializeToString())
        encoded = await asyncio.wait_for(self._stream.read(), PATIENCE_S)
        response = pb.StreamStepsResponse.FromString(encoded)
        if response.HasField("error"):
            raise Moved(f"{self.target}: {response.error.message}")
        return np.asarray(response.outputs, np.float32)


class GroupedSession(Session):
    """Advanced by StepSessions, beside a request that is refused."""

    async def send(self, frame: np.ndarray) -> np.ndarray:
        requests = [self._request(pb.StreamStepsRequest, frame) for _ in range(2)]
        requests[0].session = "nobody"
        message = pb.StepSessionsRequest(requests=requests)
        encoded = await self._call(f"{_SESSIONS}StepSessions", message)
        nobodys, response = pb.StepSessionsResponse.FromString(encoded).responses
        if response.HasField("error") or not nobodys.HasField("error"):
            raise Moved(f"{self.target}: {response.error.message}; {nobodys.error.message}")
        return np.asarray(response.outputs, np.float32)


class Sequenced(Witness):
    """Advanced by ModelInfer."""

    has_life = True

    async def begin(self, name: str) -> None:
        life = str(uuid.uuid4()) if self.has_life else ""
        self.target = Target.of_sequence(self._owner.owner or "", name, life)
        await self.step()
        if not life:
            # The server drew the generation.
            request = pb.GetSessionRequest(session=self.target.session)
            encoded = await self._call(f"{_SESSIONS}GetSession", request)
            generation = pb.GetSessionResponse.FromString(encoded).session.generation
            self.target = self.target._replace(generation=generation)

    async def send(self, frame: np.ndarray) -> np.ndarray:
        life = self.target.life
        request = peer.request(
            self.target.sequence,
            frame[np.newaxis],
            model=MODEL,
            start=self.next_step == 0,
            life=life,
            step=self.next_step if life else None,
        )
        encoded = await self._call(f"/{peer.SERVICE}/ModelInfer", request)
        return np.asarray(peer.outputs(peer.pb.ModelInferResponse.FromString(encoded)), np.float32)


class LifelessSequence(Sequenced):
    """Advanced by ModelInfer, without a life of which it could be told that it is meant."""

    has_life = False


async def begun(
    channel: grpc.aio.Channel, owners: Sequence[Attacker], cell: Cell, frames: np.ndarray
) -> list[Witness]:
    """Begins a witness of each kind for each owner."""
    witnesses: list[Witness] = []
    for index, owner in enumerate(owners):
        for kind in (Session, StreamedSession, GroupedSession, Sequenced, LifelessSequence):
            # Each on a recording of its own, so that no two could be taken for one another.
            own = np.roll(frames, 50 * len(witnesses), axis=0)
            witness = kind(channel, owner, cell, own)
            await witness.begin(f"witness-{index}-{kind.__name__}")
            await witness.step()
            witnesses.append(witness)
    return witnesses


async def keep_stepping(witnesses: Sequence[Witness]) -> None:
    """Advances all of them, again and again.

    Raises:
      Moved: the outputs of one are not the plain loop's.
    """
    while True:
        for witness in witnesses:
            await witness.step()
        await asyncio.sleep(_PERIOD_S)
