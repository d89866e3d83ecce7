"""What a request says is the same, whether the parser reads it or its form is remembered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from tickcell.conformance.peer import request
from tickcell.server.oip import asked
from tickcell.server.oip.forms import Form, Forms, Said

FRAMES = st.integers(1, 3).flatmap(
    lambda steps: st.lists(st.floats(width=32, allow_nan=False), min_size=steps, max_size=steps)
)
IDS = st.one_of(st.just(""), st.text(max_size=12), st.just(127 * "x"), st.just(200 * "x"))


def said_of(encoded: bytes) -> tuple[str, Any, tuple[bytes, ...]]:
    """Returns what the parser reads: the id, the message without it and raw contents, and these.

    Raises:
      DecodeError: it reads nothing.
    """
    message = pb.ModelInferRequest.FromString(encoded)
    request_id, raw = message.id, tuple(message.raw_input_contents)
    message.ClearField("id")
    message.ClearField("raw_input_contents")
    return request_id, message, raw


def remember(forms: Forms, encoded: bytes) -> None:
    """Remembers a request as the servicer does."""
    _, message, raw = said_of(encoded)
    forms.remember(encoded, Said(Form(asked.read(message), message), raw))


def encoded_request(sequence: int, frames: list[float], request_id: str) -> bytes:
    message = request(sequence, np.array(frames).reshape(1, -1, 1), id=request_id)
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


REQUESTS = st.builds(encoded_request, st.integers(1, 3), FRAMES, IDS)


@given(st.lists(REQUESTS, min_size=1, max_size=8), REQUESTS)
def test_remembered_form_says_what_the_parser_reads(learnt: list[bytes], encoded: bytes) -> None:
    forms = Forms()
    for each in learnt:
        remember(forms, each)
    found = forms.find(encoded)
    if found is not None:
        request_id, said = found
        assert (request_id, said.form.message, said.raw) == said_of(encoded)


@given(st.integers(1, 3), FRAMES, st.text(max_size=12), st.text(max_size=12))
def test_request_that_differs_in_id_and_readings_alone_is_found(
    sequence: int, frames: list[float], first_id: str, second_id: str
) -> None:
    forms = Forms()
    remember(forms, encoded_request(sequence, frames, first_id))
    others = [reading / 2 for reading in frames]
    assert forms.find(encoded_request(sequence, others, second_id)) is not None


@given(st.data())
def test_mutated_bytes_are_never_found_as_something_else(data: st.DataObject) -> None:
    forms = Forms()
    learnt = data.draw(REQUESTS)
    remember(forms, learnt)
    mutated = bytearray(learnt)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        end = data.draw(st.integers(at, min(at + 3, len(mutated))))
        mutated[at:end] = data.draw(st.binary(max_size=3))
        if not mutated:
            return
    encoded = bytes(mutated)
    found = forms.find(encoded)
    if found is not None:
        request_id, said = found
        assert (request_id, said.form.message, said.raw) == said_of(encoded)


def test_raw_contents_that_look_like_fields_are_no_fields() -> None:
    # Cut short, these bytes are a message too: with other raw contents, or none.
    forms = Forms()
    inner = pb.ModelInferRequest(raw_input_contents=[bytes(4)]).SerializeToString()
    message = request(1, [1.0])
    message.raw_input_contents[0] = inner
    encoded = message.SerializeToString(deterministic=True)
    remember(forms, encoded)
    found = forms.find(encoded)
    assert found is not None
    assert found[1].raw == (inner,)
    for size in range(len(encoded)):
        found = forms.find(encoded[:size])
        assert found is None or found[1].raw == said_of(encoded[:size])[2]


def test_form_is_not_found_by_raw_contents_of_another_size() -> None:
    forms = Forms()
    one, two = (encoded_request(1, frames, "") for frames in ([1.0], [1.0, 2.0]))
    remember(forms, one)
    # The same number of bytes before the raw contents, and more of those.
    remember(forms, two)
    for tail in (bytes(4), bytes(8), one[-4:] + two[:4], two[:8]):
        encoded = one[:-4] + tail
        try:
            expected = said_of(encoded)
        except DecodeError:
            assert forms.find(encoded) is None
            continue
        found = forms.find(encoded)
        assert found is None or (found[0], found[1].form.message, found[1].raw) == expected


def test_id_that_is_no_text_is_left_to_the_parser() -> None:
    forms = Forms()
    remember(forms, encoded_request(1, [1.0], "ab"))
    wrong = encoded_request(1, [1.0], "ab").replace(b"ab", b"\xc3\x28")
    assert forms.find(wrong) is None
    with pytest.raises(DecodeError):
        said_of(wrong)


def test_request_that_does_not_come_again_is_not_remembered() -> None:
    forms = Forms()
    for message in (request(1, start=True), request(1, end=True)):
        encoded = message.SerializeToString()
        remember(forms, encoded)
        assert forms.find(encoded) is None
