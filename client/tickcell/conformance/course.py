"""What the sessions of a run are fed, and what the plain loop makes of it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tickcell.conformance.caller import Caller, StreamPath
from tickcell.conformance.expectation import hold
from tickcell.v1 import model_service_pb2
from tickcell.v1 import session_service_pb2 as pb

# Enough for every test, and few enough to compute them first.
STEPS = 80
# So that the sessions of one test are fed differently.
_SERIES = 4
# A sensor may measure from here to a star; what it mostly measures is near to nothing.
_FAR = 10.0

# Makes the outputs `[N, K, O]` of frames `[N, K, F]`, series by series.
Loop = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Course:
    """Some series of frames and their outputs.

    Attributes:
      model: that all sessions are created with.
    """

    def __init__(
        self,
        model: model_service_pb2.Model,
        frames: NDArray[np.float32],
        outputs: NDArray[np.float32],
    ) -> None:
        """Takes the frames `[N, K, F]` and the outputs `[N, K, O]` of K series."""
        self.model = model
        self._frames, self._outputs = frames, outputs
        self._series = itertools.cycle(range(frames.shape[1]))

    @classmethod
    def at(cls, caller: Caller, name: str, version: str, loop: Loop | None = None) -> Course:
        """Draws frames within the ranges of a model's sensors, and lets a loop run over them.

        Args:
          caller: of the server.
          name: of the model that it serves.
          version: of it.
          loop: None for one that the server itself runs: see `undisturbed`.

        Raises:
          Refused: the server does not serve the model, or has no room for a session.
          Unmet: it answers what it must not.
        """
        wanted = model_service_pb2.GetModelRequest(name=name, version=version)
        model = caller.call(caller.models.GetModel, wanted).model
        frames = drawn(model, np.random.default_rng(), STEPS, _SERIES)
        return cls(model, frames, (loop or undisturbed(caller, model))(frames))

    def series(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the next series of all, in turn: frames `[N, B, F]` and outputs `[N, B, O]`."""
        chosen = list(itertools.islice(self._series, count))
        return self._frames[:, chosen], self._outputs[:, chosen]


def drawn(
    model: model_service_pb2.Model, random: np.random.Generator, steps: int, series: int
) -> NDArray[np.float32]:
    """Returns frames `[N, K, F]` that a model's sensors could measure."""
    lowest = np.array([sensor.min_reading for sensor in model.sensors])
    highest = np.array([sensor.max_reading for sensor in model.sensors])
    nearest = np.clip(0.0, lowest, highest)
    low, high = np.maximum(lowest, nearest - _FAR), np.minimum(highest, nearest + _FAR)
    frames = random.uniform(low, high, (steps, series, len(low))).astype(np.float32)
    # As float32, which is what a saturated sensor sends.
    return np.clip(frames, lowest.astype(np.float32), highest.astype(np.float32))


def undisturbed(caller: Caller, model: model_service_pb2.Model) -> Loop:
    """Returns a loop that the server itself runs: a session per series, to which nothing happens.

    Each is stepped in order, one frame in a request, each request once. So the outputs of all
    other sessions are compared with those of the quietest, if the model's own cell is not here.
    """

    def loop(frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([_one(caller, model, each) for each in frames.swapaxes(0, 1)], axis=1)

    return loop


def _one(
    caller: Caller, model: model_service_pb2.Model, frames: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns the outputs `[N, O]` of the frames `[N, F]` of one series."""
    session = caller.create(
        session=f"undisturbed-{uuid.uuid4()}",
        model=model.name,
        model_version=model.version,
        window_step_count=1,
    )
    rows = []
    with StreamPath(caller) as stream:
        for step, frame in enumerate(frames):
            request = pb.StreamStepsRequest(
                session=session.id,
                generation=session.generation,
                first_step=step,
                step_count=1,
                frames=frame.tolist(),
            )
            answer = stream.send(request.SerializeToString())
            hold((answer.first_step, answer.step_count), (step, 1), "first_step and step_count", 6)
            rows.append(np.array(answer.outputs, np.float32))
            hold(len(rows[-1]), len(model.output_names), "number of outputs", 2)
    caller.delete(session.id, session.generation)
    return np.stack(rows)
