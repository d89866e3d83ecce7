"""Messages with their vectors of frames or outputs as bytes: the same wire format, cheaper here.

A packed `repeated float` and a `bytes` field of little-endian float32 are the
same bytes on the wire. The public messages say `repeated float`, which is
natural in every language; Python decodes it number by number, which is what a
large chunk costs most. Each class here is a copy of a public message, made from
its descriptor, whose `repeated float` fields are `bytes`. Where a message holds several
others, the twin has the bytes of each: they are parsed and encoded one by one, so that
one which is malformed spoils no other.

A sender may always use a twin. A receiver uses `parse`, since there are
encodings of the public message that only the public class reads as meant: an
unpacked vector, or one in several pieces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from tickcell.v1 import session_service_pb2

DecodeError = message.DecodeError

_PACKAGE = "tickcell.wire"
_Field = descriptor_pb2.FieldDescriptorProto


def twins(*originals: type[message.Message]) -> list[Any]:
    """Returns a twin of each of some message classes, which are of one file."""
    (of,) = {original.DESCRIPTOR.file for original in originals}
    file = descriptor_pb2.FileDescriptorProto(
        name=of.name.replace("v1", "wire"), package=_PACKAGE, syntax="proto3"
    )
    file.dependency.extend([of.name, *(each.name for each in of.dependencies)])
    for original in originals:
        twin = file.message_type.add()
        original.DESCRIPTOR.CopyToProto(twin)
        for field in twin.field:
            if field.label != _Field.LABEL_REPEATED:
                continue
            if field.type == _Field.TYPE_FLOAT:
                field.type = _Field.TYPE_BYTES
                field.label = _Field.LABEL_OPTIONAL
            elif field.type == _Field.TYPE_MESSAGE:
                field.type = _Field.TYPE_BYTES
                field.ClearField("type_name")
    pool = descriptor_pool.Default()
    pool.Add(file)
    return [
        message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{original.DESCRIPTOR.name}")
        )
        for original in originals
    ]


(
    StepSessionRequest,
    StepSessionResponse,
    StreamStepsRequest,
    StreamStepsResponse,
    StepSessionsRequest,
    StepSessionsResponse,
    GetOutputsResponse,
    PreviewStepsRequest,
    PreviewStepsResponse,
) = twins(
    session_service_pb2.StepSessionRequest,
    session_service_pb2.StepSessionResponse,
    session_service_pb2.StreamStepsRequest,
    session_service_pb2.StreamStepsResponse,
    session_service_pb2.StepSessionsRequest,
    session_service_pb2.StepSessionsResponse,
    session_service_pb2.GetOutputsResponse,
    session_service_pb2.PreviewStepsRequest,
    session_service_pb2.PreviewStepsResponse,
)

_VECTORS = {
    StepSessionRequest: "frames",
    StepSessionResponse: "outputs",
    StreamStepsRequest: "frames",
    StreamStepsResponse: "outputs",
    GetOutputsResponse: "outputs",
    PreviewStepsRequest: "frames",
    PreviewStepsResponse: "outputs",
}


def parse(twin: Any, encoded: bytes) -> Any:
    """Parses a message with a vector as its twin, whatever way the sender encoded it.

    Raises:
      DecodeError: the bytes are not the message.
    """
    parsed = twin.FromString(encoded)
    # A vector in several pieces counts only once in the twin, an unpacked one is a field
    # that it does not know, and one of no whole number of float32 is for the public
    # class to refuse. The first two show in the size, once what is unknown is left out.
    parsed.DiscardUnknownFields()
    if parsed.ByteSize() == len(encoded) and not len(getattr(parsed, _VECTORS[twin])) & 3:
        return parsed
    return _parse_as_public(twin, encoded)


def _parse_as_public(twin: Any, encoded: bytes) -> Any:
    public = getattr(session_service_pb2, twin.DESCRIPTOR.name).FromString(encoded)
    parsed = twin()
    for descriptor, value in public.ListFields():
        if descriptor.name == _VECTORS[twin]:
            setattr(parsed, descriptor.name, np.array(value, "<f4").tobytes())
        elif hasattr(value, "MergeFrom"):
            # A message, or a list of numbers.
            getattr(parsed, descriptor.name).MergeFrom(value)
        else:
            setattr(parsed, descriptor.name, value)
    return parsed
