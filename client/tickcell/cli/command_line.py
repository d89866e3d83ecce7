"""The command `tickcell`: its subcommands, and its exit status.

Commands are imported when they are called, so that `tickcell --help` is fast and
works with any set of extras.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import importlib.metadata
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from tickcell.cli import quiet_start
from tickcell.client import errors
from tickcell.model import BundleError, MissingExtraError, extras
from tickcell.model.recording import RecordingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """Where a command is.

    Attributes:
      module: the module that defines it, under its own name.
      extra: the extra that it needs; "" if it needs none.
      summary: what it does.
    """

    module: str
    extra: str
    summary: str

    def start_libraries(self, options: Mapping[str, Any]) -> None:
        """Starts the native libraries of the extra that the command uses.

        Args:
          options: the options of the call.

        Raises:
          MissingExtraError: one of them is not installed.
        """
        if self.extra == "train":
            quiet_start.tensorflow()
        # A parent of workers runs no model itself.
        is_parent = options.get("workers", 1) > 1 and options.get("worker_link") is None
        if self.extra in {"server", "train"} and not is_parent:
            quiet_start.litert(self.extra)


_OURS = "tickcell.cli.commands"
_SERVER = "tickcell.server"

COMMANDS = {
    "demo": Command(
        f"{_OURS}.demo", "server", "Kills a server during a replay: no output changes."
    ),
    "replay": Command(f"{_OURS}.replay", "", "Replays a recording through a session."),
    "verify": Command(f"{_OURS}.verify", "server", "Checks the promise on a recording."),
    "agent": Command(f"{_OURS}.agent", "", "Drives the simulated car in closed loop."),
    "sample": Command(f"{_OURS}.sample", "", "Writes the sample recording as CSV."),
    "sessions": Command(f"{_OURS}.sessions", "", "Shows, resets and deletes sessions."),
    "models": Command(f"{_OURS}.models", "", "Shows, loads and unloads what a server serves."),
    "serve": Command(f"{_SERVER}.commands", "server", "Serves recurrent cells over gRPC."),
    "conform": Command(f"{_OURS}.conform", "conform", "Tests a server against the contract."),
    "rerun": Command(f"{_OURS}.rerun", "server", "Computes flight recordings again."),
    "token": Command(f"{_OURS}.token", "", "Makes a token for a caller."),
    "store": Command(f"{_SERVER}.store.commands", "server", "Inspects, checks and copies a store."),
    "train": Command(f"{_OURS}.train", "train", "Trains a model on recordings."),
    "export": Command(f"{_OURS}.export", "train", "Turns a Keras model into a bundle."),
    "bundle": Command(
        f"{_OURS}.bundle", "server", "Turns a LiteRT graph of one step into a bundle."
    ),
    "evaluate": Command(f"{_OURS}.evaluate", "server", "Measures a bundle on recordings."),
}


class _Commands(click.Group):
    """The commands of the table, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click calls it so
        cmd_name: str,
    ) -> click.Command | None:
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click calls it so
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.summary) for name, each in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("tickcell"), message="tickcell %(version)s")
def tickcell() -> None:
    r"""Streaming, stateful inference for recurrent networks.

    \b
    tickcell demo                    see it work, crash and continue
    tickcell serve                   serve the shipped model on localhost:50061
    tickcell replay drive.csv        one frame per tick, one output per frame

    Each command has its own --help.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    An expected error is one sentence on standard error: status 1, or 2
    if the command line itself is wrong, or 130 after Ctrl-C.
    """
    _keep_lines(tickcell)
    log, notes = logging.getLogger("tickcell.client"), _Notes()
    log.addHandler(notes)
    try:
        status = tickcell.main(arguments, prog_name="tickcell", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except click.exceptions.Abort:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing more can be written, not even
        # at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.ClickException as error:
        return _fail(error.message, error.exit_code)
    except (errors.TickcellError, BundleError, MissingExtraError, RecordingError) as error:
        return _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}.")
    finally:
        log.removeHandler(notes)
    return status if isinstance(status, int) else 0


def _fail(sentence: str, status: int = 1) -> int:
    click.echo(f"tickcell: {sentence}", err=True)
    return status


def _load(name: str) -> click.Command:
    """Imports a command.

    Raises:
      MissingExtraError: the extra that it needs is not installed.
    """
    known = COMMANDS[name]
    try:
        command: click.Command = getattr(importlib.import_module(known.module), name)
    except ModuleNotFoundError as error:
        package = (error.name or "tickcell").partition(".")[0]
        if not known.extra or package == "tickcell":
            raise
        raise extras.missing(package, known.extra) from error
    _keep_lines(command)
    # A group only looks up its commands, and needs no libraries.
    if command.callback is None or isinstance(command, click.Group):
        return command
    started = copy.copy(command)
    started.callback = _after(known.start_libraries, command.callback)
    return started


def _after(
    start: Callable[[Mapping[str, Any]], None], run: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(run)
    def started(*arguments: Any, **options: Any) -> Any:
        start(options)
        return run(*arguments, **options)

    return started


def _keep_lines(command: click.Command) -> None:
    """Turns the mark before lines that must not be wrapped into the one of click.

    A raw docstring has it as two characters.
    """
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _keep_lines(subcommand)


class _Notes(logging.Handler):
    """Writes the client's log to standard error, without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        import tqdm

        tqdm.tqdm.write(f"tickcell: {record.getMessage()}", file=sys.stderr)
