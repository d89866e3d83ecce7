"""The command `tickcell serve`."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from tickcell.model import BundleError, MissingExtraError, extras
from tickcell.server import config as config_module
from tickcell.server import logs
from tickcell.server.config import Config, ConfigError, Limits, default_store
from tickcell.server.store_place import StorePlace
from tickcell.server.workers.link import Link

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FILE = click.Path(dir_okay=False, path_type=pathlib.Path)
_LIMITS = Limits()
_CONFIG = Config(durability="none")


def _option(flag: str, *names: str, **settings: Any) -> Callable[[_Command], _Command]:
    """Returns an option that its environment variable TICKCELL_... mirrors."""
    variable = "TICKCELL_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(
        flag, *names, envvar=variable, show_envvar=True, show_default=True, **settings
    )


@click.command()
@_option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=pathlib.Path),
    help="A bundle to serve; may be repeated. [default: the one that ships with tickcell]",
)
@_option(
    "--models",
    type=click.Path(path_type=pathlib.Path),
    help="A directory of models to serve: NAME/VERSION/ is a bundle, VERSION a whole number.",
)
@_option(
    "--model-control",
    "control",
    type=click.Choice(get_args(config_module.Control)),
    default=_CONFIG.control,
    help="What to do when that directory changes. none: nothing; watch: load new versions, "
    "withdraw removed ones; explicit: wait for 'tickcell models load' and 'unload'.",
)
@_option(
    "--load-model",
    "loads",
    multiple=True,
    metavar="NAME[:VERSION]",
    help="A model to load at the start with explicit; '*' for all. May be repeated.",
)
@_option("--listen", default=_CONFIG.listen, help="HOST:PORT (port 0: any free one) or unix:PATH.")
@_option(
    "--store",
    type=StorePlace(),
    help="The directory for the sessions, or the address of a PostgreSQL, "
    "postgresql://USER@HOST/DATABASE. [default: $XDG_STATE_HOME/tickcell]",
)
@_option(
    "--durability",
    type=click.Choice(get_args(config_module.Durability)),
    help="What an acknowledged step survives; for robots, power-loss. In a directory: "
    "process-crash or power-loss; in PostgreSQL: replicated, power-loss or bounded-loss. "
    "[default: the store's own; process-crash for a new directory]",
)
@_option(
    "--numerics",
    type=click.Choice(get_args(config_module.Numerics)),
    default=_CONFIG.numerics,
    help="Whether to serve sessions from a machine that computes different last bits.",
)
@_option(
    "--idle-ttl", type=float, default=_CONFIG.idle_ttl_s, help="Seconds that a session may be idle."
)
@_option(
    "--retention",
    type=float,
    default=_CONFIG.retention_s,
    help="Seconds that the end of a session is remembered.",
)
@_option(
    "--grace",
    type=float,
    default=_CONFIG.grace_s,
    help="Seconds that a stopping server waits for its streams.",
)
@_option(
    "--max-sessions",
    type=int,
    default=_LIMITS.max_sessions,
    help="The most sessions that may be alive.",
)
@_option(
    "--max-ended",
    type=int,
    default=_LIMITS.max_ended,
    help="The most ended sessions to remember; beyond that, the oldest are forgotten early.",
)
@_option("--max-window", type=int, default=_LIMITS.max_window, help="The longest window, in steps.")
@_option(
    "--max-request-rows",
    type=int,
    default=_LIMITS.max_request_rows,
    help="The most steps times series in one request.",
)
@_option(
    "--max-record-bytes",
    type=int,
    default=_LIMITS.max_record_bytes,
    help="The largest state and window of one session.",
)
@_option(
    "--max-message-bytes",
    type=int,
    default=_LIMITS.max_message_bytes,
    help="The largest request, and the largest answer to a step.",
)
@_option("--max-streams", type=int, default=_LIMITS.max_streams, help="The most open streams.")
@_option(
    "--metrics",
    help="HOST:PORT for metrics and probes by HTTP, such as localhost:9464. [default: none]",
)
@_option(
    "--trace",
    is_flag=True,
    help="Trace each request with OpenTelemetry, configured by its OTEL_... variables.",
)
@_option(
    "--record",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="A directory for flight recordings: every step that is applied, as MCAP. "
    "'tickcell rerun' computes them again.",
)
@_option(
    "--record-limit-gb",
    type=float,
    default=_CONFIG.record_limit_gb,
    help="Gigabytes that the flight recordings in the directory may take; the oldest go first.",
)
@_option(
    "--allow-network-filesystem",
    is_flag=True,
    help="Allow the store on a network file system, for one machine alone.",
)
@_option(
    "--tls-certificate",
    type=_FILE,
    help="The server's certificate and those above it, PEM. Reloaded when it changes.",
)
@_option("--tls-key", type=_FILE, help="The certificate's key, PEM.")
@_option(
    "--tls-client-ca",
    type=_FILE,
    help="The authorities of callers' certificates, PEM; every caller must then present one.",
)
@_option(
    "--connection-age",
    type=float,
    default=_CONFIG.connection_age_s,
    help="Seconds until a caller must reconnect and present its certificate again.",
)
@_option("--tokens", type=_FILE, help="The tokens of callers, hashed: see 'tickcell token'.")
@_option("--callers", type=_FILE, help="Owners, roles and limits of callers.")
@_option(
    "--export-key",
    type=_FILE,
    help="A key of 16 bytes or more to sign exports of sessions; only exports that it signed "
    "are then accepted.",
)
@_option(
    "--insecure",
    is_flag=True,
    help="Listen in plain text on an address that other machines can reach: they can read and "
    "change everything.",
)
@_option(
    "--oip",
    type=click.Choice(get_args(config_module.Oip)),
    default=_CONFIG.oip,
    help="Serve the Open Inference Protocol, of Triton and KServe, on the same port. "
    "auto: if tickcell[triton] is installed.",
)
@_option(
    "--oip-idle-ttl",
    type=float,
    default=_CONFIG.oip_idle_ttl_s,
    help="Seconds that a sequence of that protocol may be idle.",
)
@_option(
    "--busy-poll-us",
    type=float,
    default=_CONFIG.busy_poll_us,
    help="Microseconds for which the server looks for the next event before it sleeps. Answers "
    "come sooner, and a core is busy meanwhile; 1000 is much.",
)
@_option(
    "--workers",
    type=int,
    default=_CONFIG.workers,
    help="Processes that serve on the address; each uses one core.",
)
# Set only by the parent of workers: the number of a socket.
@click.option("--worker-link", type=int, hidden=True)
@_option(
    "--log-format",
    type=click.Choice(get_args(logs.Format)),
    default="text",
    help="Log lines for people or programs.",
)
def serve(
    bundles: tuple[pathlib.Path, ...],
    store: pathlib.Path | str | None,
    durability: config_module.Durability | None,
    idle_ttl: float,
    retention: float,
    grace: float,
    max_sessions: int,
    max_ended: int,
    max_window: int,
    max_request_rows: int,
    max_record_bytes: int,
    max_message_bytes: int,
    max_streams: int,
    connection_age: float,
    oip_idle_ttl: float,
    log_format: logs.Format,
    worker_link: int | None,
    **rest: Any,
) -> None:
    r"""Serves recurrent cells over gRPC, one step per frame.

    Every acknowledged step is in the store: the server may be killed at any moment
    and started again, and several servers may serve one store.

    \b
    tickcell serve
    tickcell serve --models /srv/models --model-control watch
    tickcell serve --bundle my-model --durability power-loss
    tickcell serve --listen [::]:50061 --tls-certificate tls.crt --tls-key tls.key --tokens tokens
    tickcell serve --durability none --listen unix:/run/tickcell.sock
    tickcell serve --store postgresql://tickcell@db1,db2/tickcell
    """
    try:
        if store is None and durability != "none":
            store = default_store()
        config = Config(
            bundles=bundles,
            store=store,
            durability=durability,
            idle_ttl_s=idle_ttl,
            retention_s=retention,
            grace_s=grace,
            connection_age_s=connection_age,
            oip_idle_ttl_s=oip_idle_ttl,
            limits=Limits(
                max_sessions=max_sessions,
                max_ended=max_ended,
                max_window=max_window,
                max_request_rows=max_request_rows,
                max_record_bytes=max_record_bytes,
                max_message_bytes=max_message_bytes,
                max_streams=max_streams,
            ),
            **rest,
        )
    except ConfigError as error:
        flag = error.field.removesuffix("_s").replace("_", "-")
        raise click.UsageError(f"--{flag}: {error.complaint}") from error
    logs.configure(log_format)
    if worker_link is not None:
        link = Link(worker_link, grace)
        try:
            _run(config, link)
        except click.ClickException as error:
            link.complain(error.message)
            sys.exit(1)
    elif config.workers > 1:
        _run_workers(config)
    else:
        _run(config)


def _run(config: Config, link: Link | None = None) -> None:
    try:
        # Here, so that `--help` works where the extra is not installed.
        from tickcell.server import files, listening, process, store
        from tickcell.server.catalogue import CatalogueError
        from tickcell.server.flight.files import RecorderError
        from tickcell.server.repository import RepositoryError
    except ModuleNotFoundError as error:
        _explain(error)
        raise
    try:
        process.run(config, link)
    except (
        BundleError,
        CatalogueError,
        MissingExtraError,
        RecorderError,
        files.FileError,
        listening.ListenError,
        RepositoryError,
        store.StoreError,
    ) as error:
        raise click.ClickException(str(error)) from error


def _run_workers(config: Config) -> None:
    try:
        from tickcell.server import listening
        from tickcell.server.workers import parent, worker
    except ModuleNotFoundError as error:
        _explain(error)
        raise
    # This very command once more, by the same Python.
    command = [sys.executable, *sys.orig_argv[1:]]
    try:
        parent.run(config, command)
    except (listening.ListenError, worker.WorkerError) as error:
        raise click.ClickException(str(error)) from error


def _explain(error: ModuleNotFoundError) -> None:
    """Raises what names the extra, if the package that is missing is not our own."""
    if error.name is not None and not error.name.startswith("tickcell"):
        raise click.ClickException(str(extras.missing(error.name, "server"))) from error
