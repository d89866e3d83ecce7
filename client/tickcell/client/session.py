"""A session on a server, as a Python object: frames in, outputs out, nothing lost or doubled.

With threads: calls block. What is sent, and what a failure means, `session_core` decides.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import uuid
import weakref
from typing import TYPE_CHECKING

from tickcell.client import arguments, errors, state_calls, unary_calls
from tickcell.client.link import Link
from tickcell.client.pipeline import Pipeline
from tickcell.client.route import DEADLINE_S, RETRY_FOR_S
from tickcell.client.session_core import SessionCore
from tickcell.client.session_view import SessionView

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client import dropout
    from tickcell.client.credentials import Credentials
    from tickcell.client.drawing import Drawing
    from tickcell.client.kept_frames import KeptFrames
    from tickcell.client.needs import Operation
    from tickcell.client.resources import Model, SessionInfo


class Session(SessionView):
    """A durable recurrent state on a server.

        with Session.create("localhost:50061") as session:
            for frame in recording:
                output = session.step(frame)

    Leaving the `with` block deletes the session, unless an exception leaves it:
    then the session is kept, and `attach` continues it. Not for several threads at
    once, except `touch`.
    """

    def __init__(self, link: Link, core: SessionCore, *, owns_link: bool = True) -> None:
        """Wraps a session that exists; see `create` and `attach`.

        Args:
          link: the way to its servers.
          core: where it stands.
          owns_link: whether nobody else calls over the link, so that it ends with the session.
        """
        super().__init__(core)
        self._link = link
        self._owns_link = owns_link
        self._pipeline: Pipeline | None = None
        # The generator that steps by the pipeline; None where another loop does.
        self._streaming: weakref.ref[Generator[NDArray[np.float32], None, None]] | None = None

    @classmethod
    def create(
        cls,
        address: str | Sequence[str],
        session: str = "",
        *,
        model: str = "",
        model_version: str = "",
        series_count: int | None = None,
        window: int = 0,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        export: bytes | None = None,
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
          series_count: B, the number of series that advance in lockstep; None for 1, or for
            that of the export.
          window: W, the number of steps of which the server keeps the outputs, and the
            most that are in flight; 0 for the server's default.
          idle_ttl_s: how long it may be idle before it expires; None for the server's
            default, `math.inf` for ever.
          labels: notes on the session.
          export: what the session goes on from, as `export` returned it; model, version,
            series and window are its own then where they are not given.
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
          UsageError: an argument is invalid.
          TickcellError: any other reason.
        """
        session = arguments.text("session", session) or str(uuid.uuid4())
        link = Link(
            address,
            session=session,
            credentials=credentials,
            deadline_s=deadline_s,
            retry_for_s=retry_for_s,
        )
        begin = unary_calls.create_session(
            link.route,
            session,
            model=model,
            model_version=model_version,
            series_count=series_count,
            window=window,
            idle_ttl_s=idle_ttl_s,
            labels=labels,
            export=export,
        )
        return cls._opened(link, begin, on_dropout)

    @classmethod
    def open(
        cls,
        address: str | Sequence[str],
        session: str,
        *,
        model: str = "",
        model_version: str = "",
        series_count: int | None = None,
        window: int = 0,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        on_dropout: dropout.Policy = "raise",
        credentials: Credentials | None = None,
        retry_for_s: float | None = RETRY_FOR_S,
        deadline_s: float = DEADLINE_S,
    ) -> Session:
        """Creates a session, or takes it over if it is alive: what a restarted robot calls.

        A live session is claimed: its steps continue, and its previous caller, such as
        this program before it was killed, can no longer use it, however late it tries.

        Args:
          address: of the server or the servers, as for `create`.
          session: the session's id.
          model: as for `create`; a session that lives must have it, where it is given.
          model_version: likewise.
          series_count: likewise.
          window: likewise.
          idle_ttl_s: of a session that is created.
          labels: likewise.
          on_dropout: as for `create`.
          credentials: as for `create`.
          retry_for_s: as for `create`.
          deadline_s: as for `create`.

        Raises:
          SessionClaimedError: somebody else has claimed it at the same time.
          UsageError: it lives, and is not what is wanted; or an argument is invalid.
          TickcellError: any other reason.
        """
        link = Link(
            address,
            session=arguments.text("session", session),
            credentials=credentials,
            deadline_s=deadline_s,
            retry_for_s=retry_for_s,
        )
        begin = state_calls.open_session(
            link.route,
            session,
            model=model,
            model_version=model_version,
            series_count=series_count,
            window=window,
            idle_ttl_s=idle_ttl_s,
            labels=labels,
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
        """Continues an existing session, at its next step.

        Args:
          address: of the server or the servers, as for `create`.
          session: the session's id.
          on_dropout: as for `create`; `hold` has no good reading to begin with.
          credentials: as for `create`.
          retry_for_s: as for `create`.
          deadline_s: as for `create`.

        Raises:
          SessionEndedError: no session of this id is alive.
          UsageError: an argument is invalid.
          TickcellError: any other reason.
        """
        link = Link(
            address,
            session=arguments.text("session", session),
            credentials=credentials,
            deadline_s=deadline_s,
            retry_for_s=retry_for_s,
        )
        return cls._opened(link, unary_calls.get_session(link.route, session), on_dropout)

    @classmethod
    def _opened(
        cls, link: Link, begin: Operation[SessionInfo], on_dropout: dropout.Policy
    ) -> Session:
        with contextlib.ExitStack() as on_error:
            on_error.callback(link.close)
            session = cls(link, link.run(SessionCore.opened(link.route, begin, on_dropout)))
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

    @functools.cached_property
    def model(self) -> Model:
        """The model that advances the session.

        Raises:
          ModelUnknownError: the server does not serve it now.
        """
        return self._link.run(self._core.get_model())

    def step(self, frame: ArrayLike, *, resets: ArrayLike | None = None) -> NDArray[np.float32]:
        """Advances the session by one frame.

        Args:
          frame: `[F]` where B = 1, else `[B, F]`; in the sensors' own units.
          resets: `[B]`, which series begin anew before the frame, as where an episode of a
            simulator has ended: from what the session was created with. None for none.

        Returns:
          The outputs, `[O]` or `[B, O]`.

        Raises:
          FrameShapeError: the shape does not fit; nothing was sent.
          TickcellError: the step was refused, or its outcome is unknown; `next_step` is
            what it was, and the same frame is due again.
        """
        self._check_open()
        return self._link.run(self._core.step(frame, resets=resets))

    def steps(
        self,
        frames: ArrayLike,
        out: NDArray[np.float32] | None = None,
        *,
        resets: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Advances the session by any number of frames, in chunks, one of them ahead.

        Args:
          frames: `[T, F]` where B = 1, else `[T, B, F]`.
          out: where to write the outputs, `[T, O]` or `[T, B, O]` float32. After an
            error, those of the steps before `next_step` are in it.
          resets: `[T, B]`, which series begin anew before which frame; as for `step`.

        Returns:
          The outputs.

        Raises:
          FrameShapeError: the shape does not fit; nothing was sent.
          TickcellError: as for `step`, for up to W steps from `next_step` on.
        """
        self._check_open()
        return self._link.run(self._core.steps(frames, out, resets))

    def preview(self, frames: ArrayLike, *, resets: ArrayLike | None = None) -> NDArray[np.float32]:
        """Returns the outputs that frames would have from here on; nothing is applied.

        Args:
          frames: `[M, T, F]` where B = 1, else `[M, T, B, F]`: M branches, each of which
            goes on from `next_step` by itself.
          resets: `[M, T, B]`, which series begin anew before which frame; as for `step`.

        Returns:
          The outputs, `[M, T, O]` or `[M, T, B, O]`.

        Raises:
          StepGapError: the session is at another step, because another writer steps it.
          TickcellError: any other reason.
        """
        self._check_open()
        return self._link.run(self._core.preview(frames, resets))

    def kept_outputs(
        self, first_step: int | None = None, count: int = 0
    ) -> tuple[int, NDArray[np.float32]]:
        """Returns outputs that the server still has, whichever caller did the steps.

        Args:
          first_step: the first step; None for the oldest in the window.
          count: how many; 0 for all from the first on, as far as one answer has them.

        Returns:
          The first step, and the outputs, `[T, O]` where B = 1, else `[T, B, O]`.

        Raises:
          StepStaleError, StepGapError: a step has left the window, or is not applied yet.
        """
        self._core.check_not_closed()
        return self._link.run(self._core.kept_outputs(first_step, count))

    def fork(
        self,
        session: str = "",
        *,
        idle_ttl_s: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> SessionInfo:
        """Makes another session that continues from `next_step`; attach to it by its id.

        Args:
          session: the fork's id; empty for a UUID.
          idle_ttl_s: as for `create`.
          labels: as for `create`.

        Raises:
          SessionExistsError: a live session has this id.
          StepStaleError: this session is further on the server than here.
        """
        self._check_open()
        return self._link.run(self._core.fork(session, idle_ttl_s=idle_ttl_s, labels=labels))

    def export(self, *, window: bool = True, end: bool = False) -> bytes:
        """Returns the whole session, as the bytes of a file, from which `create` continues.

        Args:
          window: whether to include the outputs of its last steps.
          end: whether to end the session in the same commit, so that it never continues in
            two places; this object is then unusable.
        """
        self._check_open()
        exported = self._link.run(self._core.export(window=window, end=end))
        if end:
            self.detach()
        return exported

    def migrate(self, model_version: str = "", *, burn_in: ArrayLike | None = None) -> None:
        """Moves the session to another version of the model, at its next step.

        Args:
          model_version: that version; empty for the newest.
          burn_in: frames, `[T, F]` or `[T, B, F]`, that lead up to here, where the version
            has another state: from the beginning of a session of its own they make the
            state, which is then taken. None to keep the state.

        Raises:
          MigrationRefusedError: the version has other sensors or another state.
          ModelUnknownError: it is not served.
        """
        self._check_open()
        self._link.run(self._core.migrate(model_version, burn_in))
        self.__dict__.pop("model", None)

    def stream(
        self,
        frames: Iterable[ArrayLike],
        *,
        max_chunk: int | None = None,
        backlog: int | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Yields the output of each frame, in order, with up to W steps in flight.

        Another thread iterates over `frames`, up to W frames ahead of the outputs; a list or
        an array is sent as there is room for it, and needs none. After leaving the loop
        early, stream the same iterator again, which begins with the frames that were drawn
        from it and have no output; or send `unanswered` first. No frame is lost: each is
        answered, or in `unanswered`, or named by an error that was raised.

        Args:
          frames: frames as for `step`; each is sent as soon as it is there.
          max_chunk: the most frames in one request; by default what has arrived, up to
            half of W, or as `steps` does where all are there.
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
        drawing = self._core.unanswered.drawing_from(frames, self._core.encoder())
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
                for output in self._core.shapes.outputs(outputs.data):
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
        self._core.unanswered.check_none_lost()
        self._ask_ranges()
        self._streaming = None
        return self._open_pipeline(None, max_chunk=None, backlog=backlog)

    def end_pipeline(self) -> None:
        """Closes the pipeline, if there is one; the session stands where its caller is."""
        pipeline = self._pipeline
        if pipeline is None or not pipeline.may_close():
            return
        self._core.end_stream(pipeline)
        self._pipeline = None
        pipeline.close()

    def encode(self, frame: ArrayLike) -> bytes:
        """Returns a frame as a pipeline takes it, checked, and mended as `on_dropout` says.

        Raises:
          FrameShapeError: the shape does not fit.
          FrameNotFiniteError, FrameOutOfRangeError: a reading cannot be mended.
        """
        self._ask_ranges()
        return self._core.encode(frame)

    def decode(self, output: bytes) -> NDArray[np.float32]:
        """Returns a pipeline's output, `[O]` where B = 1, else `[B, O]`."""
        return self._core.shapes.output(output)

    def rewind(self, step: int) -> None:
        """Goes back to an earlier step, which the session's window must still hold.

        The frames from there on must be the same again, and then so are the outputs: this
        is how a caller gets outputs that were lost in transit, and verifies that the
        session is the right one.

        Raises:
          UsageError: the session has not come so far, or a stream is open.
        """
        self._check_open()
        self._core.rewind(step)

    def touch(self) -> None:
        """Renews the session's time to live without advancing it; also amid a stream."""
        self._link.run(self._core.touch())

    def reset(self) -> None:
        """Restarts the session from its origin, under a new generation.

        That is the initial state and step 0, except for a fork.
        """
        self._check_open()
        self._link.run(self._core.reset())

    def close(self) -> None:
        """Deletes the session, unless it has ended or was reset by others."""
        if self._core.is_closed:
            return
        self.end_pipeline()
        self._link.run(self._core.delete())
        self.detach()

    def detach(self) -> None:
        """Leaves the session on the server, to be attached to again."""
        if self._core.is_closed:
            return
        self.end_pipeline()
        self._core.leave()
        if self._owns_link:
            self._link.close()

    def _ask_ranges(self) -> None:
        """Asks for the sensors' ranges, if they are not known, and not amid a drive."""
        if not self._core.frames.knows_ranges:
            self._link.run(self._core.get_model())

    def _check_open(self) -> None:
        if self._pipeline is not None and self._streaming is not None:
            stream = self._streaming()
            if stream is None or inspect.getgeneratorstate(stream) == inspect.GEN_CLOSED:
                # Ctrl-C cut the end of that stream short.
                self.end_pipeline()
        self._core.check_open()

    def _open_pipeline(
        self, drawing: Drawing | KeptFrames | None, *, max_chunk: int | None, backlog: int | None
    ) -> Pipeline:
        core = self._core
        bounds = core.bounds(drawing, max_chunk=max_chunk, backlog=backlog)
        link = self._link.beside(retry_for_s=bounds.retry_for_s)
        self._pipeline = core.stream = Pipeline(link, core.cargo(drawing, bounds))
        self._pipeline.start()
        return self._pipeline
