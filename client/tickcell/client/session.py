"""A session on a server, as a Python object: frames in, outputs out, nothing lost or doubled.

The session's place in the sequence is `next_step`: the first step whose output
the caller does not have. It moves when the caller gets an output, and by nothing
else; whatever goes wrong in between, doing the same step again is right.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import time
import uuid
import weakref
from typing import TYPE_CHECKING

import numpy as np

from tickcell.client import arguments, dropout, errors, unary_calls
from tickcell.client.backoff import BACKLOG_S
from tickcell.client.frames import Encoder, Frames
from tickcell.client.life import Chunk, Life, Place
from tickcell.client.link import DEADLINE_S, RETRY_FOR_S, Link
from tickcell.client.pipeline import Pipeline
from tickcell.client.recall import Recall
from tickcell.client.shapes import Shapes
from tickcell.client.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.credentials import Credentials
    from tickcell.client.drawing import Drawing
    from tickcell.client.kept_frames import KeptFrames
    from tickcell.client.resources import Model, SessionInfo

# Rows (steps times series) in one request. More gain nothing.
_CHUNK_ROWS = 1024

_log = logging.getLogger("tickcell.client")


class Session:
    """A durable recurrent state on a server.

        with Session.create("localhost:50061") as session:
            for frame in recording:
                output = session.step(frame)

    Leaving the `with` block deletes the session, unless an exception leaves it:
    then it is kept, and `attach` goes on with it. Not for several threads at once,
    `touch` excepted.
    """

    def __init__(
        self, link: Link, info: SessionInfo, *, on_dropout: dropout.Policy = "raise"
    ) -> None:
        """Wraps a session that exists; see `create` and `attach`.

        Raises:
          ModelUnknownError: readings are to be mended, and nobody knows the sensors' ranges.
        """
        self._link = link
        self._pipeline: Pipeline | None = None
        # The generator that steps by the pipeline; None where another loop does.
        self._streaming: weakref.ref[Generator[NDArray[np.float32], None, None]] | None = None
        self._is_closed = False
        self._unanswered = Unanswered(info.id)
        # Of the lives before, and of this one.
        self._rollback_count = 0
        self._recall = Recall(info.id, info.next_step, info.window_step_count)
        self._begin(info)
        self._frames = Frames(self._shapes, on_dropout, lambda: self.model)
        if on_dropout != "raise":
            self._frames.ask_ranges()

    @classmethod
    def create(
        cls,
        address: str | Sequence[str],
        session: str = "",
        *,
        model: str = "",
        model_version: str = "",
        series_count: int = 1,
        window: int = 0,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        on_dropout: dropout.Policy = "raise",
        credentials: Credentials | None = None,
        retry_for_s: float | None = RETRY_FOR_S,
        deadline_s: float = DEADLINE_S,
    ) -> Session:
        """Creates a session.

        Args:
          address: of the server, `HOST:PORT` or `unix:PATH`; of several servers of one store,
            with commas between them or as a list. The session's id says which of them is
            asked first, and the next is asked at once when that is away.
          session: the session's id; empty for a UUID.
          model: the model's name; may be empty where only one is served.
          model_version: its version; empty for the newest that all servers of the store have.
          series_count: B, the number of series that advance in lockstep.
          window: W, the number of steps of which the server keeps the outputs, and the
            most that are in flight; 0 for the server's default.
          idle_ttl_s: how long it may be idle before it expires; None for the server's
            default, `math.inf` for ever.
          labels: notes on the session.
          on_dropout: what to do with a reading that is not finite or outside its sensor's
            range: `raise` an error; `hold` the sensor's last good reading; `clip` it to the
            range, which cannot be done for a NaN. See `dropout_counts`.
          credentials: by which the server is known, and what it is shown; None for plain
            text, and nothing shown.
          retry_for_s: for how long a call is tried again while the server does not
            answer; None for ever.
          deadline_s: how long one try may take, connecting included only for as long as a
            connection may take; `math.inf` for no deadline.

        Raises:
          SessionExistsError: a live session has this id.
          UsageError: an argument cannot be meant.
          TickcellError: any other reason.
        """
        session = arguments.text("session", session) or str(uuid.uuid4())
        begin = functools.partial(
            unary_calls.create_session,
            session=session,
            model=model,
            model_version=model_version,
            series_count=series_count,
            window=window,
            idle_ttl_s=idle_ttl_s,
            labels=labels,
        )
        link = Link(
            address,
            session=session,
            credentials=credentials,
            deadline_s=deadline_s,
            retry_for_s=retry_for_s,
        )
        return cls._opened(link, begin, on_dropout)

    @classmethod
    def attach(
        cls,
        address: str | Sequence[str],
        session: str,
        *,
        on_dropout: dropout.Policy = "raise",
        credentials: Credentials | None = None,
        retry_for_s: float | None = RETRY_FOR_S,
        deadline_s: float = DEADLINE_S,
    ) -> Session:
        """Goes on with a session that exists, at the step where it stands.

        Args:
          address: of the server or the servers, as for `create`.
          session: the session's id.
          on_dropout: as for `create`; `hold` has no good reading to begin with.
          credentials: as for `create`.
          retry_for_s: as for `create`.
          deadline_s: as for `create`.

        Raises:
          SessionEndedError: no session of this id is alive.
          UsageError: an argument cannot be meant.
          TickcellError: any other reason.
        """
        begin = functools.partial(unary_calls.get_session, session=session)
        link = Link(
            address,
            session=arguments.text("session", session),
            credentials=credentials,
            deadline_s=deadline_s,
            retry_for_s=retry_for_s,
        )
        return cls._opened(link, begin, on_dropout)

    @classmethod
    def _opened(
        cls, link: Link, begin: Callable[[Link], SessionInfo], on_dropout: dropout.Policy
    ) -> Session:
        with contextlib.ExitStack() as on_error:
            on_error.callback(link.close)
            dropout.check_policy(on_dropout)
            session = cls(link, begin(link), on_dropout=on_dropout)
            on_error.pop_all()
        return session

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
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
        model = unary_calls.get_model(self._link, self._info.model, self._info.model_version)
        self._frames.sensor_names = [sensor.name for sensor in model.sensors]
        return model

    @property
    def next_step(self) -> int:
        """The first step whose output the caller does not have."""
        return self._place.step if self._pipeline is None else self._pipeline.flight.first

    @property
    def history(self) -> bytes | None:
        """The history before `next_step`: 8 bytes that stand for all frames until then.

        Two sessions with the same history were given the same frames. Each request names
        it, so that another writer on the session is found out. None after `rewind`, until
        the next answer.
        """
        return (
            self._place.history if self._pipeline is None else self._pipeline.flight.place.history
        )

    @property
    def rollback_count(self) -> int:
        """How often the store was found put back, to before a step that it had answered.

        Each time the steps in between were sent again, and gave the same outputs.
        """
        return self._rollback_count + self._recall.rollback_count

    @property
    def in_flight(self) -> int:
        """The number of steps that are sent and not answered; above 0 only in a stream."""
        return 0 if self._pipeline is None else self._pipeline.in_flight

    @property
    def unanswered(self) -> NDArray[np.float32]:
        """The frames from `next_step` on that were taken and whose outputs nobody has.

        `[N, B, F]`, or `[N, F]` where B = 1. After a stream or a paced loop was left, read
        them and send them first, or give `stream` the same iterator, which does that. Some
        may have been applied. A frame goes when it is answered, or when other frames are
        streamed after it was read. While `drawing`, one more may come.
        """
        in_loop = None if self._pipeline is None else self._pipeline.frames
        return self._shapes.frames(b"".join(self._unanswered.read(in_loop)))

    @property
    def drawing(self) -> bool:
        """Whether a stream's thread is inside its source, which will bring a frame."""
        return self._unanswered.is_drawing

    @property
    def dropout_counts(self) -> dict[str, int]:
        """How many readings were held or clipped, by sensor."""
        return self._frames.dropout_counts

    @property
    def series_dropout_counts(self) -> dict[int, dict[str, int]]:
        """How many readings were held or clipped, by series, of those with any, and sensor."""
        return self._frames.series_dropout_counts

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
        readings = self._frames.readings(frame, time_axes=0)
        mended = self._frames.mended([readings], self._place.step)
        outputs = self._send(mended)
        return outputs.reshape(self._shapes.output_shape(readings))

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
        readings = self._frames.readings(frames, time_axes=1)
        shape = self._shapes.output_shape(readings)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise errors.UsageError(
                f"out: got {out.dtype} {list(out.shape)}, expected float32 {list(shape)}."
            )
        size = self._max_chunk
        start = 0
        while start < len(readings):
            # Up to a frame that cannot be mended, which is raised once it is the first.
            mended = self._frames.mended(readings[start : start + size], self._place.step)
            end = start + len(mended.frames)
            out[start:end] = self._send(mended).reshape(end - start, *shape[1:])
            start = end
        return out

    def stream(
        self,
        frames: Iterable[ArrayLike],
        *,
        max_chunk: int | None = None,
        backlog: int | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Yields the output of each frame, in order, with up to W steps in flight.

        Another thread iterates over `frames`, up to W frames ahead of the outputs; a list or
        an array goes out as there is room for it, and needs none. Whoever leaves the loop
        early streams the same iterator again, which begins with the frames that were drawn
        from it and have no output; or sends `unanswered` first. No frame is lost: each is
        answered, or in `unanswered`, or named by an error that was raised.

        Args:
          frames: frames as for `step`; each is sent as soon as it is there.
          max_chunk: the most frames in one request; by default what has arrived, up to
            half of W.
          backlog: for a source that cannot wait, such as a sensor: how many frames may
            wait while the server does not answer. It may be away for 10 minutes then, or
            for `retry_for_s` if that is longer. A list or an array waits.

        Raises:
          BacklogError: more frames than `backlog` wait.
          FrameError: a frame was refused for what it is; those behind it are kept.
          UsageError: the iterator is another session's, or frames of another one have no
            output and nobody has read them.
          TickcellError: as for `step`, for the step `next_step`.
        """
        itself: list[weakref.ref[Generator[NDArray[np.float32], None, None]]] = []
        stream = self._stream(frames, max_chunk, backlog, itself)
        itself.append(weakref.ref(stream))
        return stream

    def _stream(
        self,
        frames: Iterable[ArrayLike],
        max_chunk: int | None,
        backlog: int | None,
        itself: Sequence[weakref.ref[Generator[NDArray[np.float32], None, None]]],
    ) -> Generator[NDArray[np.float32], None, None]:
        self._check_open()
        drawing = self._unanswered.drawing_from(frames, Encoder(self._frames, lambda: self._end))
        self._streaming = itself[0]
        try:
            pipeline = drawing.feed(
                lambda: self._open_pipeline(drawing, max_chunk=max_chunk, backlog=backlog),
                can_wait=backlog is None,
            )
            flight = pipeline.flight
            drawing.fill()
            while (outputs := pipeline.take()) is not None:
                after = outputs.first_step
                for output in self._shapes.outputs(outputs.data):
                    after += 1
                    # Nothing is called between these two lines, so that Ctrl-C finds the
                    # output had or not had.
                    flight.first = after
                    yield output
                drawing.fill()
            drawing.check()
        except errors.RefusedError:
            if self._pipeline is not None:
                self._pipeline.drop_refused()
            raise
        finally:
            self.end_pipeline()

    def pipeline(self, *, backlog: int) -> Pipeline:
        """Opens the machinery under `stream`, for loops of another shape.

        Until `end_pipeline`, the session's steps go by the pipeline alone.

        Args:
          backlog: as for `stream`.

        Raises:
          UsageError: frames of an earlier loop have no output and nobody has read them.
        """
        self._check_open()
        self._unanswered.check_none_lost()
        self._frames.ask_ranges()
        self._streaming = None
        return self._open_pipeline(None, max_chunk=None, backlog=backlog)

    def end_pipeline(self) -> None:
        """Closes the pipeline, if there is one; the session stands where its caller is."""
        pipeline = self._pipeline
        if pipeline is None or not pipeline.may_close():
            return
        # Once more after a Ctrl-C in the middle, it ends what is left to be ended.
        self._unanswered.stop_drawing()
        self._place = pipeline.flight.place
        self._unanswered.leave(pipeline.leave())
        self._pipeline = None
        pipeline.close()

    def encode(self, frame: ArrayLike) -> bytes:
        """Returns a frame as a pipeline takes it, checked, and mended as `on_dropout` says.

        Raises:
          FrameShapeError: the shape does not fit.
          FrameNotFiniteError, FrameOutOfRangeError: a reading cannot be mended.
        """
        return self._frames.encode(frame, self._end, is_checked=True)

    def decode(self, output: bytes) -> NDArray[np.float32]:
        """Returns a pipeline's output, `[O]` where B = 1, else `[B, O]`."""
        return self._shapes.output(output)

    def rewind(self, step: int) -> None:
        """Goes back to an earlier step, which the session's window must still hold.

        The frames from there on must be the same again, and so are the outputs: that is
        how a caller gets outputs that were lost on the way, and finds out whether the
        session is the one that it means.

        Raises:
          UsageError: the session has not come so far, or a stream is open.
        """
        self._check_open()
        at = arguments.count("step", step, lowest=0, highest=self._place.step)
        if at < self._place.step:
            self._place = Place(at, None)
            self._recall.rewind(at)

    def touch(self) -> None:
        """Renews the session's time to live without advancing it; also amid a stream."""
        self._check_not_closed()
        with self._explained():
            self._info = unary_calls.touch_session(self._link, self.id, self._life.generation)

    def reset(self) -> None:
        """Starts again from the initial state and step 0, under a new generation."""
        self._check_open()
        ended = self._life
        with self._explained():
            info = unary_calls.reset_session(self._link, self.id, ended.generation)
        self._begin(info, (*ended.ended, ended.generation))
        self._unanswered.restart()

    def close(self) -> None:
        """Deletes the session; one that has ended, or was reset by others, is left at that."""
        if self._is_closed:
            return
        self.end_pipeline()
        try:
            unary_calls.delete_session(self._link, self.id, self._life.generation)
        except errors.SessionEndedError:
            pass
        except errors.SessionClaimedError:
            _log.warning("%s: was claimed by others; it is left to them", self.id)
        except errors.SessionRestartedError as error:
            if isinstance(self._life.explained(error), errors.ResetLostError):
                _log.warning("%s: its reset was lost; the life before is left alone", self.id)
            else:
                _log.warning("%s: was begun anew by others; that life is left alone", self.id)
        self.detach()

    def detach(self) -> None:
        """Leaves the session on the server, to be attached to again."""
        if self._is_closed:
            return
        self.end_pipeline()
        self._is_closed = True
        self._link.close()
        if self.dropout_counts:
            counts = ", ".join(f"{name} {count}" for name, count in self.dropout_counts.items())
            _log.warning("%s: readings that dropped out: %s", self.id, counts)

    def _begin(self, info: SessionInfo, ended: tuple[int, ...] = ()) -> None:
        """Takes over a life of the session, after those that were ended here."""
        self._info = info
        self._shapes = Shapes(info)
        size = self._shapes.output_size
        window = info.window_step_count
        self._life: Life = Life(info.id, info.generation, window, size, ended)
        self._place = Place(info.next_step, info.history)
        self._rollback_count += self._recall.rollback_count
        self._recall = Recall(info.id, info.next_step, window)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raises what a refusal means to whoever was answered in this life before."""
        try:
            yield
        except errors.RefusedError as error:
            explained = self._life.explained(error)
            if explained is error:
                raise
            raise explained from error

    @property
    def _max_chunk(self) -> int:
        rows = max(1, _CHUNK_ROWS // self._info.series_count)
        return min(rows, self._life.window, self._info.max_step_count)

    @property
    def _end(self) -> int:
        """The step of the next frame that is taken."""
        pipeline = self._pipeline
        return self._place.step if pipeline is None else pipeline.end

    def _check_not_closed(self) -> None:
        if self._is_closed:
            raise errors.UsageError(f"{self.id}: is closed; attach to it again.")

    def _check_open(self) -> None:
        self._check_not_closed()
        if self._pipeline is None:
            return
        stream = None if self._streaming is None else self._streaming()
        is_dead = stream is None or inspect.getgeneratorstate(stream) == inspect.GEN_CLOSED
        if self._streaming is None or not is_dead:
            raise errors.UsageError(f"{self.id}: a stream is open; finish or close it first.")
        # Ctrl-C cut the end of that stream short.
        self.end_pipeline()

    def _open_pipeline(
        self, drawing: Drawing | KeptFrames | None, *, max_chunk: int | None, backlog: int | None
    ) -> Pipeline:
        window = self._life.window
        chunk = max(1, min(window // 2, self._max_chunk))
        if max_chunk is not None:
            most = min(window, self._info.max_step_count)
            chunk = min(arguments.count("max_chunk", max_chunk, lowest=1), most)
        retry_for_s = self._link.retry_for_s
        waiting = window
        if backlog is not None:
            waiting = arguments.count("backlog", backlog, lowest=1)
            retry_for_s = None if retry_for_s is None else max(retry_for_s, BACKLOG_S)
        link = self._link.beside(retry_for_s=retry_for_s)
        frames = self._unanswered.begin(drawing)
        self._pipeline = Pipeline(
            link,
            self._life,
            self._place,
            frames,
            max_chunk=chunk,
            max_waiting=waiting,
            recall=self._recall,
        )
        self._pipeline.start()
        return self._pipeline

    def _send(self, mended: dropout.Mended) -> NDArray[np.float32]:
        """Sends steps by a unary call, which costs less than a turn of a stream in Python."""
        self._check_open()
        frames = [frame.tobytes() for frame in mended.frames]
        chunk = Chunk.of(self._place, len(frames), b"".join(frames))
        with self._explained():
            outputs, last_history = self._answer_to(chunk)
        self._recall.add_all(chunk, outputs, time.monotonic())
        self._place = Place(chunk.first_step + chunk.step_count, last_history)
        for frame in frames:
            self._unanswered.answer(frame)
        self._frames.note(mended)
        return np.frombuffer(outputs, "<f4").copy()

    def _answer_to(self, chunk: Chunk) -> tuple[bytes, bytes]:
        """Sends steps by unary calls until the store has all up to them; returns their answer."""
        recall, sent = self._recall, chunk
        while True:
            try:
                while recall.answered < chunk.first_step:
                    sent = recall.chunk(recall.answered, self._max_chunk)
                    outputs, _ = unary_calls.step_session(self._link, self._life, sent)
                    recall.answer(sent, outputs, time.monotonic())
                sent = chunk
                return unary_calls.step_session(self._link, self._life, sent)
            except errors.StepGapError as gap:
                recall.roll_back(gap, sent.first_step)
