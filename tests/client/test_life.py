"""A reply is taken for what it says that it answers, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from tickcell import wire
from tickcell.client import errors
from tickcell.client.life import Chunk, Life, Place
from tickcell.wire import history

LIFE = Life("car-7", generation=5, window=4, output_size=4)
CHUNK = Chunk.of(Place(2, b"history!"), 2, bytes(8))
LAST = history.chain(b"history!", bytes(8), 2)[-history.SIZE :]


def reply(kind: Any = wire.StepSessionResponse, **fields: Any) -> Any:
    right = {"session": "car-7", "generation": 5, "first_step": 2, "step_count": 2, "history": LAST}
    return kind(**{**right, "outputs": bytes(range(8)), **fields})


@pytest.mark.parametrize("kind", [wire.StepSessionRequest, wire.StreamStepsRequest])
def test_a_request_names_its_life_and_its_steps(kind: Any) -> None:
    request = LIFE.request(kind, CHUNK)
    assert (request.session, request.generation) == ("car-7", 5)
    assert (request.first_step, request.step_count, request.frames) == (2, 2, CHUNK.frames)
    assert request.expected_history == b"history!"


@pytest.mark.parametrize("kind", [wire.StepSessionResponse, wire.StreamStepsResponse])
def test_the_reply_to_a_chunk_has_its_outputs(kind: Any) -> None:
    answered = kind.FromString(reply(kind).SerializeToString())
    assert LIFE.outputs(answered, CHUNK) == bytes(range(8))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"session": "car-8"}, "got a reply to session 'car-8', generation 5, expected 'car-7', 5"),
        ({"generation": 6}, "generation 6, expected 'car-7', 5"),
        ({"first_step": 4}, "car-7: got a reply to 2 steps from step 4, expected 2 from step 2"),
        ({"step_count": 1}, "got a reply to 1 steps from step 2, expected 2 from step 2"),
        ({"history": b"another!"}, "car-7: step 2: got a reply to other frames than were sent"),
        ({"outputs": bytes(4)}, "car-7: step 2: got 1 outputs, expected 2 for 2 steps"),
    ],
)
def test_a_reply_to_something_else_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(errors.ReplyError, match=sentence):
        LIFE.outputs(reply(**fields), CHUNK)


def test_a_reply_to_nothing_is_refused() -> None:
    with pytest.raises(errors.ReplyError, match="2 steps from step 2, expected none"):
        LIFE.outputs(reply(), None)


def test_a_reply_is_taken_as_it_is_where_the_history_is_not_known() -> None:
    chunk = Chunk.of(Place(2, None), 2, bytes(8))
    assert chunk.last_history is None
    assert LIFE.request(wire.StepSessionRequest, chunk).expected_history == b""
    assert LIFE.outputs(reply(history=b"whatever"), chunk) == bytes(range(8))
