"""A session on a server, as a Python object: frames in, outputs out, nothing lost or doubled.

The session's place in the sequence is `next_step`: the first step whose output
the caller does not have. It moves when the caller gets an output, and by nothing
else; whatever goes wrong in between, doing the same step again is right.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import numpy as np

from tickcell.client import calls, errors
from tickcell.client.feeder import Feeder
from tickcell.client.life import Chunk, Life
from tickcell.client.link import DEADLINE_S, RETRY_FOR_S, Link
from tickcell.client.patience import BACKLOG_S
from tickcell.client.pipeline import Pipeline
from tickcell.client.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.resources import Model, SessionInfo

# Rows (steps times series) in one request. More gain nothing, and the server
# takes no more than its --max-request-rows.
_CHUNK_ROWS = 1024


class Session:
    """A durable recurrent state on a server.

        with Session.create("localhost:50061") as session:
            for frame in recording:
                output = session.step(frame)

    Leaving the `with` block deletes the session, unless an exception leaves it:
    then it is kept, and `attach` goes on with it. Not for several threads at once.
    """

    def __init__(self, link: Link, info: SessionInfo) -> None:
        """Wraps a session that exists; see `create` and `attach`."""
        self._link = link
        self._pipeline: Pipeline | None = None
        self._is_closed = False
        self._begin(info)

    @classmethod
    def create(
        cls,
        address: str,
        session: str = "",
        *,
        model: str = "",
        model_version: str = "",
        series_count: int = 1,
        window: int = 0,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        retry_for_s: float | None = RETRY_FOR_S,
        deadline_s: float = DEADLINE_S,
    ) -> Session:
        """Creates a session.

        Args:
          address: of the server, `HOST:PORT` or `unix:PATH`.
          session: the session's id; empty for one that the server derives.
          model: the model's name; may be empty where only one is served.
          model_version: its version; may be empty where only one is served.
          series_count: B, the number of series that advance in lockstep.
          window: W, the number of steps of which the server keeps the outputs, and the
            most that are in flight; 0 for the server's default.
          idle_ttl_s: how long it may be idle before it expires; None for the server's
            default, `math.inf` for ever.
          labels: notes on the session.
          retry_for_s: for how long a call is tried again while the server does not
            answer; None for ever.
          deadline_s: how long one try may take.

        Raises:
          SessionExistsError: a live session has this id.
          TickcellError: any other reason.
        """
        with contextlib.ExitStack() as on_error:
            link = Link(address, deadline_s=deadline_s, retry_for_s=retry_for_s)
            on_error.callback(link.close)
            info = calls.create_session(
                link,
                session,
                model=model,
                model_version=model_version,
                series_count=series_count,
                window=window,
                idle_ttl_s=idle_ttl_s,
                labels=labels,
            )
            on_error.pop_all()
        return cls(link, info)

    @classmethod
    def attach(
        cls,
        address: str,
        session: str,
        *,
        retry_for_s: float | None = RETRY_FOR_S,
        deadline_s: float = DEADLINE_S,
    ) -> Session:
        """Goes on with a session that exists, at the step where it stands.

        Args:
          address: of the server.
          session: the session's id.
          retry_for_s: as for `create`.
          deadline_s: as for `create`.

        Raises:
          SessionEndedError: no session of this id is alive.
          TickcellError: any other reason.
        """
        with contextlib.ExitStack() as on_error:
            link = Link(address, deadline_s=deadline_s, retry_for_s=retry_for_s)
            on_error.callback(link.close)
            info = calls.get_session(link, session)
            on_error.pop_all()
        return cls(link, info)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.detach()

    def __repr__(self) -> str:
        return f"<Session {self.id} at step {self.next_step} on {self._link.address}>"

    @property
    def id(self) -> str:
        """The session's id."""
        return self._info.id

    @property
    def info(self) -> SessionInfo:
        """The session as the server described it last; steps do not change this."""
        return self._info

    @functools.cached_property
    def model(self) -> Model:
        """The model that advances the session.

        Raises:
          ModelUnknownError: the server does not serve it now.
        """
        return calls.get_model(self._link, self._info.model, self._info.model_version)

    @property
    def next_step(self) -> int:
        """The first step whose output the caller does not have."""
        return self._next_step if self._pipeline is None else self._pipeline.next_step

    @property
    def in_flight(self) -> int:
        """The number of steps that are sent and not answered; above 0 only in a stream."""
        return 0 if self._pipeline is None else self._pipeline.in_flight

    @property
    def unanswered(self) -> NDArray[np.float32]:
        """The frames from `next_step` on that the last `stream` drew from its source.

        `[N, B, F]`, or `[N, F]` where B = 1. Some may have been applied: to go on, send
        these first.
        """
        return self._shapes.frames(self._unanswered)

    def step(self, frame: ArrayLike) -> NDArray[np.float32]:
        """Advances the session by one frame.

        Args:
          frame: `[F]` where B = 1, else `[B, F]`; in the sensors' own units.

        Returns:
          The outputs, `[O]` or `[B, O]`.

        Raises:
          FrameShapeError: the shape does not fit; nothing was sent.
          TickcellError: the step was refused, or its outcome is unknown; `next_step` is
            what it was, and the same frame is due again.
        """
        readings = self._readings(frame, time_axes=0)
        return self._send(readings.tobytes(), 1).reshape(self._shapes.output_shape(readings))

    def steps(
        self, frames: ArrayLike, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Advances the session by any number of frames, a chunk at a time.

        Args:
          frames: `[T, F]` where B = 1, else `[T, B, F]`.
          out: where to write the outputs, `[T, O]` or `[T, B, O]` float32. After an
            error, those of the steps before `next_step` are in it.

        Returns:
          The outputs.

        Raises:
          FrameShapeError: the shape does not fit; nothing was sent.
          TickcellError: as for `step`, for the chunk from `next_step` on.
        """
        readings = self._readings(frames, time_axes=1)
        shape = self._shapes.output_shape(readings)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise errors.UsageError(
                f"out: got {out.dtype} {list(out.shape)}, expected float32 {list(shape)}."
            )
        size = min(self._life.window, self._max_chunk)
        for start in range(0, len(readings), size):
            chunk = readings[start : start + size]
            output = self._send(chunk.tobytes(), len(chunk))
            out[start : start + size] = output.reshape(len(chunk), *shape[1:])
        return out

    def stream(
        self,
        frames: Iterable[ArrayLike],
        *,
        max_chunk: int | None = None,
        backlog: int | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Yields the output of each frame, in order, with up to W steps in flight.

        Another thread iterates over `frames`, up to W frames ahead of the outputs. A
        frame is kept until the output after its own is asked for. Whoever leaves the
        loop early goes on with the frames of `unanswered`, some of which may have been
        applied.

        Args:
          frames: frames as for `step`; each is sent as soon as it is there.
          max_chunk: the most frames in one request; by default what has arrived, up to
            half of W.
          backlog: for a source that cannot wait, such as a sensor: how many frames may
            wait while the server does not answer. It may be away for 10 minutes then, or
            for `retry_for_s` if that is longer.

        Raises:
          BacklogError: more frames than `backlog` wait.
          TickcellError: as for `step`, for the step `next_step`.
        """
        pipeline = self.pipeline(max_chunk=max_chunk, backlog=backlog)
        feeder = Feeder(pipeline, map(self.encode, frames), can_wait=backlog is None)
        try:
            feeder.start()
            while (output := pipeline.pop()) is not None:
                try:
                    yield self.decode(output.data)
                finally:
                    pipeline.release()
            feeder.check()
        finally:
            self.end_pipeline()
            self._unanswered += feeder.rest

    def pipeline(self, *, max_chunk: int | None = None, backlog: int | None = None) -> Pipeline:
        """Opens the machinery under `stream`, for loops of another shape.

        Until `end_pipeline`, the session's steps go by the pipeline alone.
        """
        self._check_open()
        window = self._life.window
        chunk = max(1, min(window // 2, self._max_chunk) if max_chunk is None else max_chunk)
        retry_for_s = self._link.retry_for_s
        if backlog is not None and retry_for_s is not None:
            retry_for_s = max(retry_for_s, BACKLOG_S)
        link = Link(self._link.address, deadline_s=self._link.deadline_s, retry_for_s=retry_for_s)
        self._pipeline = Pipeline(
            link,
            self._life,
            self._next_step,
            max_chunk=min(chunk, window),
            max_waiting=window if backlog is None else backlog,
        )
        return self._pipeline

    def end_pipeline(self) -> None:
        """Closes the pipeline, if there is one; the session stands where its caller is."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._next_step = self._pipeline.next_step
            self._unanswered = self._pipeline.frames
            self._pipeline = None

    def encode(self, frame: ArrayLike) -> bytes:
        """Returns a frame as a pipeline takes it.

        Raises:
          FrameShapeError: the shape does not fit.
        """
        return self._readings(frame, time_axes=0).tobytes()

    def decode(self, output: bytes) -> NDArray[np.float32]:
        """Returns a pipeline's output, `[O]` where B = 1, else `[B, O]`."""
        return self._shapes.output(output)

    def rewind(self, step: int) -> None:
        """Goes back to an earlier step, which the session's window must still hold.

        The frames from there on must be the same again, and so are the outputs: that is
        how a caller gets outputs that were lost on the way, and finds out whether the
        session is the one that it means.
        """
        self._check_open()
        if not 0 <= step <= self._next_step:
            raise errors.UsageError(f"{self.id}: got step {step}, expected 0 to {self._next_step}.")
        self._next_step = step

    def touch(self) -> None:
        """Renews the session's time to live without advancing it."""
        self._check_open()
        self._info = calls.touch_session(self._link, self.id, self._life.generation)

    def reset(self) -> None:
        """Starts again from the initial state and step 0, under a new generation."""
        self._check_open()
        self._begin(calls.reset_session(self._link, self.id, self._life.generation))

    def close(self) -> None:
        """Deletes the session; one that has ended is left at that."""
        if self._is_closed:
            return
        self.end_pipeline()
        with contextlib.suppress(errors.SessionEndedError):
            calls.delete_session(self._link, self.id, self._life.generation)
        self.detach()

    def detach(self) -> None:
        """Leaves the session on the server, to be attached to again."""
        self.end_pipeline()
        self._is_closed = True
        self._link.close()

    def _begin(self, info: SessionInfo) -> None:
        """Takes over a life of the session."""
        self._info = info
        self._shapes = Shapes(info)
        size = self._shapes.output_size
        self._life: Life = Life(info.id, info.generation, info.window_step_count, size)
        self._next_step = info.next_step
        self._unanswered = b""

    @property
    def _max_chunk(self) -> int:
        return max(1, _CHUNK_ROWS // self._info.series_count)

    def _check_open(self) -> None:
        if self._is_closed:
            raise errors.UsageError(f"{self.id}: is closed; attach to it again.")
        if self._pipeline is not None:
            raise errors.UsageError(f"{self.id}: a stream is open; finish or close it first.")

    def _readings(self, frames: ArrayLike, *, time_axes: int) -> NDArray[np.float32]:
        """Returns frames as contiguous float32, checked."""
        readings = self._shapes.readings(frames, time_axes=time_axes)
        if readings is None:
            # A wrong shape is found out here, and must not wait for a server that is away.
            model = vars(self).get("model")
            names = [sensor.name for sensor in model.sensors] if model else None
            raise self._shapes.refusal(frames, time_axes=time_axes, sensor_names=names)
        return readings

    def _send(self, frames: bytes, step_count: int) -> NDArray[np.float32]:
        """Sends steps by a unary call, which costs less than a turn of a stream in Python."""
        self._check_open()
        chunk = Chunk(self._next_step, step_count, frames)
        outputs = calls.step_session(self._link, self._life, chunk)
        self._next_step += step_count
        return np.frombuffer(outputs, "<f4").copy()
