"""The command `tickcell replay`."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shlex
from typing import TYPE_CHECKING, Any, get_args

import click
import numpy as np

from tickcell.cli import output_rows, plots, progress, source
from tickcell.cli.commands import connection, given_options, layouts, options
from tickcell.cli.playback import Playback, start_step, too_short
from tickcell.client import dropout, errors, unary_calls
from tickcell.client.clock import Clock
from tickcell.client.session import Session
from tickcell.model.recording import STANDARD_INPUT, Layout, RecordingError
from tickcell.model.recording.labels import Labelling, OfOutput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tickcell.cli.output_rows import OutputRows
    from tickcell.client.credentials import Credentials
    from tickcell.client.resources import Model
    from tickcell.model.recording import Block

_PATH = click.Path(path_type=pathlib.Path, dir_okay=False)


@click.command()
@click.argument("recording", required=False)
@options.server
@options.credentials
@click.option("--session", default="", metavar="ID", help="The session's id.  [default: a new one]")
@options.model
@click.option(
    "--hz",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HZ",
    help="Frames per second; also the rate of a RECORDING without times.",
)
@click.option("--fast", is_flag=True, help="Replay as fast as possible, ignoring times.")
@click.option("--resample", is_flag=True, help="Resample the recording to the model's rate.")
@click.option(
    "--on-dropout",
    type=click.Choice(get_args(dropout.Policy)),
    default="raise",
    show_default=True,
    help="What to do with a reading that is not finite or outside its sensor's range.",
)
@click.option(
    "--window",
    type=click.IntRange(min=0),
    default=0,
    metavar="STEPS",
    help="The number of last steps whose outputs the server keeps.  [default: the server's]",
)
@click.option("--out", type=_PATH, help="The file for the rows.  [default: standard output]")
@click.option("--plot", type=_PATH, help="Draw sensors, output and label as a PNG.")
@click.option("--output", metavar="NAME", help="The output that labels are for.  [default: all]")
@click.option("--null-class", metavar="LABEL", help="The label that means no label.")
@click.option("--resume", is_flag=True, help="Continue where --session and --out ended.")
@click.option("--keep", is_flag=True, help="Keep the session at the end.")
@options.retry_for
@click.pass_context
@layouts.layout(
    label="The column of labels to write beside the outputs.",
    on_gap=("raise", "keep"),
)
def replay(context: click.Context, /, layout: Layout, **given: Any) -> int:
    r"""Replays a recording: one frame per tick, one row per output.

    RECORDING is a file of delimited text, JSON lines, Parquet, NPY or NPZ, a ROS bag or
    MCAP; or - for text or JSON lines on standard input, row by row as they arrive. Without
    it, the sample is replayed. Assumptions about the file are printed to standard error.

    Ctrl-C keeps the session, and prints how to continue.

    \b
    tickcell replay --fast > outputs.csv
    tickcell replay drive.csv --hz 50 --out outputs.csv --plot outputs.png
    tickcell replay drive.csv --session car-7 --out outputs.csv --resume
    robot | tickcell replay - --session robot-1 --keep
    """
    asked = _Options(**given, layout=layout)
    run = _Run(asked, context)
    try:
        run.run()
    except KeyboardInterrupt:
        click.echo(f"tickcell: {run.way_on()}", err=True)
        return 130
    except BrokenPipeError:
        click.echo(f"tickcell: {run.way_on()}", err=True)
        raise
    except errors.StepConflictError as error:
        if not asked.resume:
            raise
        name = asked.recording or "the sample"
        raise click.ClickException(
            f"{name}: is not the recording of {asked.session}: {error}"
        ) from error
    except (errors.TickcellError, RecordingError) as error:
        if run.session is None or not _may_go_on(error):
            raise
        # The same frames, read alike, would stop it again.
        is_of_frames = isinstance(error, RecordingError | errors.FrameError)
        when = "with the row mended, or an option for it, " if is_of_frames else ""
        raise click.ClickException(f"{error}\n{run.way_on(when)}") from error
    return 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    """The options of the call; the fields are the command's parameters."""

    recording: str | None
    server: str
    credentials: Credentials
    session: str
    model: str
    hz: float | None
    fast: bool
    resample: bool
    on_dropout: dropout.Policy
    window: int
    out: pathlib.Path | None
    plot: pathlib.Path | None
    output: str | None
    null_class: str | None
    resume: bool
    keep: bool
    retry_for_s: float
    layout: Layout

    def __post_init__(self) -> None:
        if self.fast and self.hz:
            raise click.UsageError("--fast and --hz exclude each other.")
        if self.resume and not (self.session and self.out):
            raise click.UsageError("--resume needs --session and --out, to continue both.")
        if (self.output or self.null_class) and not self.layout.label:
            raise click.UsageError("--output and --null-class need --label, the column of labels.")
        if self.is_live and self.plot:
            raise click.UsageError("--plot needs a recording in a file.")
        if self.is_live and self.resample:
            raise click.UsageError("--resample needs a recording in a file.")

    @property
    def is_live(self) -> bool:
        """Whether frames are replayed as they arrive on standard input."""
        return self.recording == STANDARD_INPUT


class _Run:
    """One replay, from the command line to the last row.

    Attributes:
      session: once it is open.
    """

    # Once the rows are open, which they are before the session is.
    _rows: OutputRows

    def __init__(self, asked: _Options, context: click.Context) -> None:
        self._asked = asked
        self._context = context
        self.session: Session | None = None
        # Where they are to be drawn.
        self._outputs: list[NDArray[np.float32]] = []
        self._blocks: list[Block] = []

    def run(self) -> None:
        """Replays, and deletes the session at the end unless it is to be kept."""
        asked = self._asked
        if asked.plot:
            plots.check_installed()
        try:
            model = self._model()
        except errors.SessionDeletedError as error:
            if not self._is_through(error):
                raise
            return
        dropouts = dropout.Dropouts(asked.on_dropout, model.sensors, model.mask_value)
        labelling = self._labelling(model)
        played = self._source(model, dropouts, labelling)
        for note in played.notes():
            click.echo(f"tickcell: {note}", err=True)
        with (
            self._open_rows(model, played) as self._rows,
            self._open(model) as session,
            self._left(session),
        ):
            first = session.next_step
            if asked.resume:
                stood = session.next_step
                first = start_step(session.info, self._rows, played.length)
                if self._rows.next_step > stood:
                    click.echo(
                        f"tickcell: {session.id}: is at step {stood}, but the rows end at step "
                        f"{self._rows.next_step}: its store was put back, or it was begun anew; "
                        "sending the steps in between again, whose outputs must match the rows.",
                        err=True,
                    )
                session.rewind(first)
            self._replay(session, played)
            if asked.resume and session.next_step < stood:
                raise too_short(session.info, played.read_count)
            if asked.keep:
                session.detach()
        for note in played.closing_notes():
            click.echo(f"tickcell: {note}", err=True)
        if session.rollback_count:
            click.echo(
                f"tickcell: the store was put back to an earlier step {session.rollback_count} "
                "time(s); the steps in between were sent again, and gave the same outputs.",
                err=True,
            )
        if asked.plot:
            outputs = np.concatenate([self._rows.outputs[:first], np.array(self._outputs)])
            plots.replay(asked.plot, played.whole(self._blocks), outputs, model, labelling)

    def _is_through(self, error: errors.SessionDeletedError) -> bool:
        """Returns, and prints, whether the replay to resume had already finished.

        A replay deletes its session when every row is written, and may be killed after that.
        """
        asked, steps = self._asked, int(error.metadata["next_step"])
        if asked.out is None or not asked.resume or output_rows.count(asked.out) != steps:
            return False
        click.echo(
            f"tickcell: {asked.session} was deleted after {steps} steps, and {asked.out} has the "
            "row of each: nothing is left to continue.",
            err=True,
        )
        return True

    def way_on(self, when: str = "") -> str:
        """Returns at which step the replay is, and how and when to continue it."""
        if self.session is None:
            return "stopped before the first step"
        stands = f"stopped at step {self._rows.next_step}; session {self.session.id} is kept"
        if self._asked.out is None:
            server = given_options.words(self._context, lambda name: name in options.OF_CONNECTIONS)
            command = ["tickcell", "sessions", "delete", self.session.id, *server]
            return f"{stands}; delete it with:\n  {shlex.join(command)}"
        recording = self._asked.recording
        words = given_options.words(self._context, lambda name: name not in ("session", "resume"))
        command = ["tickcell", "replay", *([recording] if recording else []), *words]
        command += ["--session", self.session.id, "--resume"]
        return f"{stands}; {when}continue with:\n  {shlex.join(command)}"

    def _model(self) -> Model:
        with connection.link(self._asked.server, self._asked.credentials) as link:
            if self._asked.resume:
                info = link.do(unary_calls.get_session, self._asked.session)
                return link.do(unary_calls.get_model, info.model, info.model_version)
            return connection.model(link, self._asked.model)

    def _labelling(self, model: Model) -> Labelling:
        """Returns what labels are, by the outputs that they are of."""
        asked = self._asked
        if asked.layout.label is None:
            return Labelling()
        outputs = [
            OfOutput(one.name, one.kind, one.size, one.classes, one.unit)
            for one in model.outputs
            if asked.output in (None, one.name)
        ]
        if not outputs:
            names = ", ".join(one.name for one in model.outputs)
            raise click.ClickException(
                f"{model.name}: has no output {asked.output!r}, only {names}."
            )
        labelling, notes = Labelling.of_outputs(model.name, outputs, asked.null_class)
        for note in notes:
            click.echo(f"tickcell: {note}", err=True)
        return labelling

    def _source(
        self, model: Model, dropouts: dropout.Dropouts, labelling: Labelling
    ) -> source.Source:
        asked = self._asked
        return source.open_source(
            asked.recording,
            model,
            dropouts,
            asked.layout,
            labelling,
            hz=asked.hz,
            resample=asked.resample,
        )

    def _open_rows(
        self, model: Model, played: source.Source
    ) -> contextlib.AbstractContextManager[OutputRows]:
        out, has_labels = self._asked.out, played.has_labels
        if out is not None and self._asked.resume:
            return output_rows.resume(out, model.output_names, has_labels=has_labels)
        return output_rows.create(out, model.output_names, has_labels=has_labels)

    def _open(self, model: Model) -> Session:
        asked = self._asked
        if asked.resume:
            return Session.attach(
                asked.server,
                asked.session,
                credentials=asked.credentials,
                retry_for_s=asked.retry_for_s,
            )
        return Session.create(
            asked.server,
            asked.session,
            model=model.name,
            model_version=model.version,
            window=asked.window,
            credentials=asked.credentials,
            retry_for_s=asked.retry_for_s,
        )

    @contextlib.contextmanager
    def _left(self, session: Session) -> Iterator[None]:
        """Leaves no session behind that was made here, and that no frame was sent to."""
        self.session = session
        try:
            yield
        except BaseException:
            is_used = session.next_step or session.in_flight or len(session.unanswered)
            if not self._asked.resume and not is_used:
                self.session = None
                self._delete(session)
            raise

    def _delete(self, session: Session) -> None:
        """Deletes a session, or says why it stays; what went wrong before must be told."""
        try:
            session.close()
        except errors.TickcellError as error:
            click.echo(
                f"tickcell: session {session.id}, which has no step, stays on the server: {error}",
                err=True,
            )

    def _replay(self, session: Session, played: source.Source) -> None:
        length = played.expected_length
        left = None if length is None else max(0, length - session.next_step)
        # What arrives live has its own clock.
        is_paced = not self._asked.fast and not played.is_live
        writes_output = self._asked.out is None
        with progress.bar(played.name, left, writes_output=writes_output) as advance:

            def on_row(output: NDArray[np.float32]) -> None:
                if self._asked.plot:
                    self._outputs.append(output)
                advance()

            clock = Clock() if is_paced else None
            run = Playback(session, self._rows, clock, self._asked.hz, on_row=on_row)
            watch = self._blocks.append if self._asked.plot else _nothing
            run.run(played.samples(session.next_step, watch), played.rate_hz)


def _may_go_on(error: Exception) -> bool:
    """Says whether the same command, or one with other options, may get further."""
    if isinstance(error, RecordingError | errors.FrameError):
        return True
    if isinstance(error, errors.RefusedError):
        return error.may_pass
    return isinstance(error, errors.UnavailableError | errors.BacklogError | errors.CallError)


def _nothing(_: object) -> None:
    """Is told of something that nobody needs."""
