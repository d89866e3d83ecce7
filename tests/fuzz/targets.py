"""What may be addressed: sessions and sequences, by all that is known of them."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from fuzz.rpcs import Rpc
from tickcell import wire
from tickcell.server.oip import identity
from tickcell.v1 import session_service_pb2 as pb

MODEL = "drive"
_ID_BITS = 2**64
# What names a life, and changes nothing.
_READING = ("GetOutputsRequest", "PreviewStepsRequest")


class Target(NamedTuple):
    """A session, or a sequence of the Open Inference Protocol and its session.

    Attributes:
      owner: whose it is.
      session: the session's id.
      generation: of its life.
      request_id: by which it was created; "" for a sequence.
      sequence: the correlation id; None for a session that is no sequence.
      life: the sequence's; "" if its caller gave none.
    """

    owner: str
    session: str
    generation: int
    request_id: str = ""
    sequence: int | str | None = None
    life: str = ""

    @classmethod
    def of_sequence(cls, owner: str, sequence: int | str, life: str, generation: int = 0) -> Target:
        """Returns the target that a sequence is; its generation follows from its life."""
        session = identity.Sequence(MODEL, sequence).session(owner)
        if life:
            generation = identity.generation(life)
        return cls(owner, session, generation, "", sequence, life)


class Attacker(NamedTuple):
    """Who sends what nobody should.

    Attributes:
      owner: whose sessions are its own; None for who is not let in.
      is_operator: whether it may name other owners.
      authorization: what it shows; "" for nothing.
    """

    owner: str | None
    is_operator: bool = False
    authorization: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What it shows, as metadata of a call."""
        return (("authorization", self.authorization),) if self.authorization else ()

    def may_change(self, target: Target, rpc: Rpc, encoded: bytes) -> bool:
        """Says whether a message addresses a target so that it may rightly change it.

        It need not be right otherwise, so of some messages it says so in vain.
        """
        if self.owner is None:
            return False
        if rpc.request_class is pb.StepSessionsRequest:
            # Each of its requests counts by itself, whatever the others are.
            one = rpc._replace(request_class=pb.StreamStepsRequest)
            try:
                requests = wire.StepSessionsRequest.FromString(encoded).requests
            except DecodeError:
                return False
            return any(self.may_change(target, one, each) for each in requests)
        try:
            message: Any = rpc.request_class.FromString(encoded)
        except DecodeError:
            return False
        fields = message.DESCRIPTOR.fields_by_name
        if message.DESCRIPTOR.name in _READING:
            return False
        if "generation" in fields:
            return self._names_life(target, message)
        if message.DESCRIPTOR.name == "ModelInferRequest":
            return self._names_sequence(target, message)
        return False

    def _names_life(self, target: Target, message: Any) -> bool:
        owner = self.owner
        if self.is_operator and "owner" in message.DESCRIPTOR.fields_by_name and message.owner:
            owner = message.owner
        # A unary step may leave the generation out, and so may a claim by force.
        is_free = hasattr(message, "first_step") or getattr(message, "force", False)
        generations = {target.generation} | ({0} if is_free else set())
        if message.generation not in generations:
            return False
        return (owner, message.session) == (target.owner, target.session)

    def _names_sequence(self, target: Target, message: Any) -> bool:
        if target.sequence is None or (self.owner, message.model_name) != (target.owner, MODEL):
            return False
        given = message.parameters
        named = given.get("sequence_id")
        if named is None:
            return False
        kind = named.WhichOneof("parameter_choice")
        value = getattr(named, kind) if kind else None
        if isinstance(value, int):
            value %= _ID_BITS
        if value != target.sequence:
            return False
        life = given["sequence_life"].string_param if "sequence_life" in given else ""
        return "sequence_start" in given or _same(life, target.life)


def _same(life: str, other: str) -> bool:
    """Says whether two ways to write a UUID, or none, are one."""
    if not life or not other:
        return True
    try:
        return uuid.UUID(life) == uuid.UUID(other)
    except ValueError:
        return False
