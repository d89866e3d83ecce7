"""The twins are the public messages: the same bytes, read the same way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tickcell import wire
from tickcell.v1 import session_service_pb2 as pb

MESSAGES = (
    "StepSessionRequest",
    "StepSessionResponse",
    "StreamStepsRequest",
    "StreamStepsResponse",
)

int64s = st.integers(-(2**63), 2**63 - 1)
int32s = st.integers(-(2**31), 2**31 - 1)
# NaN is what numpy makes of it; Python's floats keep no other payload of a float32.
vectors = arrays.arrays("<f4", st.integers(0, 40), elements=st.floats(width=32, allow_nan=False))


@st.composite
def fields_of(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Draws the fields of a message, in terms of the public one."""
    fields: dict[str, Any] = {
        "session": draw(st.text(max_size=20)),
        "step_count": draw(int32s),
        vector_of(name): draw(vectors),
    }
    for index in ("generation", "first_step"):
        if draw(st.booleans()):
            fields[index] = draw(int64s)
    history = "expected_history" if name.endswith("Request") else "history"
    fields[history] = draw(st.binary(max_size=8))
    if name == "StreamStepsResponse" and draw(st.booleans()):
        fields["error"] = status_pb2.Status(code=draw(int32s), message=draw(st.text(max_size=9)))
    return fields


def vector_of(name: str) -> str:
    return "frames" if name.endswith("Request") else "outputs"


def public(name: str, fields: dict[str, Any]) -> Any:
    vector = vector_of(name)
    return getattr(pb, name)(**{**fields, vector: fields[vector].tolist()})


def twin(name: str, fields: dict[str, Any]) -> Any:
    vector = vector_of(name)
    return getattr(wire, name)(**{**fields, vector: fields[vector].tobytes()})


def assert_read_as_public(name: str, encoded: bytes) -> None:
    """Holds what `parse` reads to what the public class reads, a refusal included."""
    try:
        expected = getattr(pb, name).FromString(encoded)
    except DecodeError:
        with pytest.raises(wire.DecodeError):
            wire.parse(getattr(wire, name), encoded)
        return
    parsed = wire.parse(getattr(wire, name), encoded)
    for field in expected.DESCRIPTOR.fields:
        got, wanted = getattr(parsed, field.name), getattr(expected, field.name)
        if field.name == vector_of(name):
            np.testing.assert_array_equal(np.frombuffer(got, "<f4"), np.array(wanted, "<f4"))
        else:
            assert got == wanted
        if field.has_presence:
            assert parsed.HasField(field.name) == expected.HasField(field.name)


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_twin_and_public_message_are_the_same_bytes(name: str, data: st.DataObject) -> None:
    fields = data.draw(fields_of(name))
    assert twin(name, fields).SerializeToString() == public(name, fields).SerializeToString()


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_public_message_is_read_as_it_was_written(name: str, data: st.DataObject) -> None:
    fields = data.draw(fields_of(name))
    encoded = public(name, fields).SerializeToString()
    assert wire.parse(getattr(wire, name), encoded) == twin(name, fields)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 1e-45])
def test_every_kind_of_float_keeps_its_bits(value: float) -> None:
    vector = np.array([value], "<f4")
    encoded = pb.StepSessionRequest(frames=vector.tolist()).SerializeToString()
    assert wire.parse(wire.StepSessionRequest, encoded).frames == vector.tobytes()


def tag(number: int, kind: int) -> bytes:
    return bytes([number << 3 | kind])


def packed(vector: np.ndarray[Any, Any]) -> bytes:
    return tag(5, 2) + bytes([vector.nbytes & 0x7F | 0x80, vector.nbytes >> 7]) + vector.tobytes()


def unpacked(vector: np.ndarray[Any, Any]) -> bytes:
    return b"".join(tag(5, 5) + reading.tobytes() for reading in vector)


# Fields as an encoder may write them: twice, out of order, longer than need be, with the
# value that says nothing, and those of a later version.
scraps = st.sampled_from(
    [
        tag(1, 2) + b"\x03car",
        tag(1, 2) + b"\x00",
        tag(2, 0) + b"\x07",
        tag(2, 0) + b"\x00",
        tag(3, 0) + b"\x85\x80\x00",
        tag(3, 0) + b"\xff" * 9 + b"\x01",
        tag(4, 0) + b"\x00",
        tag(4, 0) + b"\x02",
        tag(4, 2) + b"\x01\x05",
        tag(15, 0) + b"\x01",
        tag(14, 2) + b"\x03new",
        tag(13, 5) + bytes(4),
    ]
)


@pytest.mark.parametrize("name", MESSAGES)
@given(pieces=st.lists(scraps | vectors.map(packed) | vectors.map(unpacked), max_size=8))
def test_message_in_any_pieces_is_read_as_the_public_class_reads_it(
    name: str, pieces: list[bytes]
) -> None:
    assert_read_as_public(name, b"".join(pieces))


@pytest.mark.parametrize("name", MESSAGES)
@given(encoded=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_as_the_public_class_does(name: str, encoded: bytes) -> None:
    assert_read_as_public(name, encoded)


@pytest.mark.parametrize("name", ["StepSessionRequest", "StreamStepsResponse"])
def test_message_with_any_one_byte_changed_or_cut_off_is_read_or_refused_as_well(
    name: str,
) -> None:
    vector = np.array([1.5, -2.0, 3e9], "<f4")
    fields = {"session": "car", "generation": 2**50, "first_step": 300, "step_count": 3}
    encoded = public(name, {**fields, vector_of(name): vector}).SerializeToString()
    for index in range(len(encoded)):
        assert_read_as_public(name, encoded[:index])
        for value in range(256):
            assert_read_as_public(name, encoded[:index] + bytes([value]) + encoded[index + 1 :])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 39, 41])
def test_vector_of_no_whole_number_of_floats_is_malformed(size: int) -> None:
    with pytest.raises(wire.DecodeError):
        wire.parse(wire.StepSessionRequest, tag(5, 2) + bytes([size]) + bytes(size))


def test_text_that_is_not_utf_8_is_malformed() -> None:
    with pytest.raises(wire.DecodeError):
        wire.parse(wire.StepSessionRequest, tag(1, 2) + b"\x02\xc3\x28")


requests = fields_of("StreamStepsRequest").map(lambda fields: twin("StreamStepsRequest", fields))


@given(st.lists(requests, max_size=5))
def test_several_requests_are_the_bytes_of_each(several: list[Any]) -> None:
    each = [request.SerializeToString() for request in several]
    encoded = wire.StepSessionsRequest(requests=each).SerializeToString()
    public = pb.StepSessionsRequest.FromString(encoded)
    assert [request.SerializeToString() for request in public.requests] == each
    assert public.SerializeToString() == encoded
    assert [*wire.StepSessionsRequest.FromString(encoded).requests] == each


@given(st.lists(requests, min_size=1, max_size=5), st.data())
def test_request_that_is_malformed_spoils_no_other(several: list[Any], data: st.DataObject) -> None:
    each = [request.SerializeToString() for request in several]
    place = data.draw(st.integers(0, len(each)))
    each.insert(place, b"\xff")
    encoded = wire.StepSessionsRequest(requests=each).SerializeToString()
    found = [*wire.StepSessionsRequest.FromString(encoded).requests]
    with pytest.raises(wire.DecodeError):
        wire.parse(wire.StreamStepsRequest, found.pop(place))
    assert [wire.parse(wire.StreamStepsRequest, request) for request in found] == several


@given(st.lists(fields_of("StreamStepsResponse"), max_size=5))
def test_several_responses_are_the_bytes_of_each(several: list[dict[str, Any]]) -> None:
    each = [twin("StreamStepsResponse", fields).SerializeToString() for fields in several]
    encoded = wire.StepSessionsResponse(responses=each).SerializeToString()
    expected = [public("StreamStepsResponse", fields) for fields in several]
    assert encoded == pb.StepSessionsResponse(responses=expected).SerializeToString()
