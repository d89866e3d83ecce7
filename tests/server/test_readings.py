"""Readings that no sensor gives are refused; what masks a frame is of no sensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from doubles.counting_cell import CountingCell, counting_outputs
from doubles.in_process_server import InProcessServer, served
from tickcell.conformance.caller import PATHS, Caller, Path, Refused
from tickcell.model import Sensor
from tickcell.v1 import session_service_pb2 as pb

MASK = -1000.0
GOOD = (2.5, 7.0)


class MaskedCell(CountingCell):
    """Counts steps of frames with a speed, and a word of a vocabulary of twelve."""

    def __init__(self) -> None:
        super().__init__(2)
        sensors = (Sensor("speed", "m/s", 0, 50), Sensor("word", "", 0, 11, whole=True))
        self._interface = dataclasses.replace(self._interface, sensors=sensors, mask_value=MASK)


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with InProcessServer([served(MaskedCell())]) as server, Caller(server.address) as caller:
        yield caller


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, caller: Caller) -> Iterator[Path]:
    with PATHS[request.param](caller) as path:
        yield path


def step(path: Path, session: pb.Session, first_step: int, frames: np.ndarray) -> np.ndarray:
    """Sends frames `[T, B, 2]`; returns their outputs."""
    answer = path.send(
        path.request_class(
            session=session.id,
            generation=session.generation,
            first_step=first_step,
            step_count=len(frames),
            frames=frames.ravel().tolist(),
        ).SerializeToString()
    )
    return np.array(answer.outputs, np.float32).reshape(frames.shape)


@pytest.mark.parametrize("series_count", [1, 3])
@pytest.mark.parametrize("count", [1, 4])
def test_a_masked_frame_is_a_step_whatever_the_ranges_are(
    path: Path, caller: Caller, series_count: int, count: int
) -> None:
    session = caller.create(series_count=series_count)
    frames = np.full((count, series_count, 2), GOOD, np.float32)
    frames[-1, -1] = MASK

    outputs = step(path, session, 0, frames)

    np.testing.assert_array_equal(outputs, counting_outputs(frames))
    assert caller.get(session.id).next_step == count


@pytest.mark.parametrize(
    ("frame", "sensor", "expected"),
    [
        ((MASK, 7.0), "speed", "got -1000 m/s, expected 0 to 50"),
        ((2.5, MASK), "word", "got -1000, expected a whole number from 0 to 11"),
        ((2.5, 7.5), "word", "got 7.5, expected a whole number from 0 to 11"),
        ((2.5, 12.0), "word", "got 12, expected a whole number from 0 to 11"),
        ((51.0, 7.0), "speed", "got 51 m/s, expected 0 to 50"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_reading_that_no_sensor_gives_is_refused_and_changes_nothing(
    path: Path,
    caller: Caller,
    frame: tuple[float, float],
    sensor: str,
    expected: str,
    count: int,
) -> None:
    session = caller.create(series_count=2)
    good = np.full((count, 2, 2), GOOD, np.float32)
    step(path, session, 0, good)
    before, bad = caller.get(session.id), good.copy()
    # Beside a masked one, which excuses no other series.
    bad[-1] = [[MASK, MASK], frame]

    with pytest.raises(Refused, match=expected) as refused:
        step(path, session, count, bad)

    assert refused.value.reason == "FRAME_OUT_OF_RANGE"
    place = {"step": str(2 * count - 1), "series": "1", "sensor": sensor}
    whole = {"whole": str(sensor == "word").lower()}
    assert refused.value.metadata.items() >= {**place, **whole}.items()
    assert caller.get(session.id) == before
    np.testing.assert_array_equal(step(path, session, count, good), counting_outputs(good, count))
