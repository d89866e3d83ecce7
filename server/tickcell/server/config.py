"""What the server is told: frozen, validated on construction, every default with its reason."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from typing import Literal, get_args

Durability = Literal["process-crash", "power-loss", "none", "replicated", "bounded-loss"]
Numerics = Literal["serve", "strict"]
Control = Literal["none", "watch", "explicit"]
Oip = Literal["auto", "on", "off"]

# Beside nothing else in wide use, and easy to tell from gRPC's usual 50051.
DEFAULT_LISTEN = "localhost:50061"

NANOSECONDS = 1_000_000_000

_LONGEST_AGE_S = 2_000_000.0
_MOST_GB = 1_000_000.0
_LONGEST_BUSY_US = 1_000_000.0

# How the address of a store in PostgreSQL begins; anything else is a directory.
_ADDRESSES = ("postgresql://", "postgres://")
_OF_DIRECTORIES = ("process-crash", "power-loss")
POSTGRES_LEVELS = ("replicated", "power-loss", "bounded-loss")


def default_store() -> pathlib.Path:
    """Returns the directory of the store when none is named."""
    state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(state) / "tickcell"


def is_address(store: object) -> bool:
    """Says whether a store is named by the address of a PostgreSQL, and not by its directory."""
    return isinstance(store, str) and store.startswith(_ADDRESSES)


class ConfigError(ValueError):
    """An option is out of its range.

    Attributes:
      field: of the configuration.
      complaint: what is wrong with it.
    """

    def __init__(self, field: str, complaint: str) -> None:
        super().__init__(f"{field}: {complaint}")
        self.field = field
        self.complaint = complaint


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep one caller from taking the server from the others.

    Attributes:
      max_sessions: sessions that may be alive in the store. A million take 1.6 GB.
      max_ended: ended sessions that are remembered, even within the retention; then the
        oldest are forgotten first.
      max_window: the longest window a session may ask for, in steps. The window is
        rewritten with each step, so a long one is paid at each tick.
      max_request_rows: steps times series in one request, of the sessions that are created
        here; others keep the bound of the server that created them. 8192 rows hold the loop for
        about 3 ms.
      max_record_bytes: state and window of one session, which are written anew with each
        step. 512 KiB hold the loop for 1 to 5 ms, by the steps in the request; it is 1024
        series of the shipped model with the default window.
      max_message_bytes: the longest message that is received, and of the sessions that are
        created here the longest answer to a step. 8192 rows of 10 sensors
        take 0.33 MB; gRPC's own default is 4 MB.
      max_streams: streams open at once.
      max_idle_ttl_s: the longest time to live a session may ask for, 10 years, so that
        times stay within their 64 bits.
    """

    max_sessions: int = 100_000
    max_ended: int = 100_000
    max_window: int = 1024
    max_request_rows: int = 8192
    max_record_bytes: int = 512 * 1024
    max_message_bytes: int = 4 * 1024 * 1024
    max_streams: int = 1024
    max_idle_ttl_s: float = 315_360_000.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value >= 1:
                raise ConfigError(field.name, f"got {value}, expected at least 1.")


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """One server.

    Attributes:
      bundles: the directories of the bundles to serve; empty for the shipped one, or for
        none beside `models`.
      models: a repository of models to serve, as `repository` describes it; None for none.
      control: what is done about changes there; see `model_control`. As with Triton, by
        default nothing.
      loads: the models to load at a start under `explicit`, each as `NAME`, `NAME:VERSION`
        or `*`.
      listen: `HOST:PORT`, port 0 for any free one, or `unix:PATH`.
      store: the store's directory, or the address of its PostgreSQL; None for memory only.
      durability: what an acknowledged step survives. `process-crash`: the crash of any
        process; `power-loss`: a power cut too, for a sync before each answer; `none`:
        nothing. Of PostgreSQL, `power-loss` too; `replicated`: the loss of the primary;
        `bounded-loss`: any of our processes, while a crash of PostgreSQL loses 0.6 s.
        None: what the store keeps, `process-crash` for a new directory.
      numerics: whether to go on with a session that was advanced under other numerics.
      limits: bounds on what callers may ask for.
      idle_ttl_s: how long a session may be idle when its creator does not say. A day
        outlives a night's pause; what ends sooner surprises.
      retention_s: how long the end of a session is remembered.
      grace_s: how long a stopping server waits for its streams.
      metrics: `HOST:PORT` where metrics and probes are shown, port 0 for any free one; None
        for nowhere.
      trace: whether each request is traced, and sent where OpenTelemetry's variables say.
      record: the directory of flight recordings; None where none are made.
      record_limit_gb: gigabytes that its files may take; the oldest go first. Ten hold twenty
        sessions at 50 Hz for more than a day.
      allow_network_filesystem: whether the store may lie on a network file system.
      tls_certificate, tls_key: the server's certificate and its key, for TLS; see `tls`.
      tls_client_ca: the authorities that sign client certificates, which each connection
        must show then.
      connection_age_s: how long a connection may last that was made with a client's
        certificate, which may have run out since, or its authority gone. An hour costs a
        robot a pause of some round trips.
      tokens: the file of the tokens by which callers are known; see `tokens`.
      callers: the file of callers, owners and limits; see `owners`.
      export_key: the file of the key by which exports are signed, and without which none is
        taken; None where they are not signed.
      insecure: whether an address that other machines reach may be listened on in plain text.
      oip: whether to serve the Open Inference Protocol too; `auto`: if its extra is installed.
      oip_idle_ttl_s: how long a sequence of that protocol may be idle. Its clients often
        end none, and rely on the server; Triton's own default is a second.
      busy_poll_us: for how long the server looks for the next event before it sleeps, in
        microseconds; see `polling`. 0, for a core that is busy for nothing is not for everybody.
      workers: how many processes serve on the address; above 1, this is one of them.
    """

    bundles: tuple[pathlib.Path, ...] = ()
    models: pathlib.Path | None = None
    control: Control = "none"
    loads: tuple[str, ...] = ()
    listen: str = DEFAULT_LISTEN
    store: pathlib.Path | str | None = None
    durability: Durability | None = None
    numerics: Numerics = "serve"
    limits: Limits = dataclasses.field(default_factory=Limits)
    idle_ttl_s: float = 86_400.0
    retention_s: float = 3_600.0
    grace_s: float = 10.0
    metrics: str | None = None
    trace: bool = False
    record: pathlib.Path | None = None
    record_limit_gb: float = 10.0
    allow_network_filesystem: bool = False
    tls_certificate: pathlib.Path | None = None
    tls_key: pathlib.Path | None = None
    tls_client_ca: pathlib.Path | None = None
    connection_age_s: float = 3_600.0
    tokens: pathlib.Path | None = None
    callers: pathlib.Path | None = None
    export_key: pathlib.Path | None = None
    insecure: bool = False
    oip: Oip = "auto"
    oip_idle_ttl_s: float = 600.0
    busy_poll_us: float = 0.0
    workers: int = 1

    def __post_init__(self) -> None:
        for name, choices in (
            ("durability", get_args(Durability)),
            ("numerics", get_args(Numerics)),
            ("control", get_args(Control)),
            ("oip", get_args(Oip)),
        ):
            if getattr(self, name) not in (None, *choices):
                raise ConfigError(
                    name, f"got {getattr(self, name)!r}, expected one of {', '.join(choices)}."
                )
        if self.control != "none" and self.models is None:
            raise ConfigError(
                "model_control", f"got {self.control}, expected --models DIRECTORY too."
            )
        if self.loads and self.control != "explicit":
            raise ConfigError(
                "load_model",
                f"got {self.loads[0]}, expected --model-control explicit too; otherwise all "
                "models are loaded.",
            )
        if self.durability == "none" and self.store is not None:
            raise ConfigError(
                "store",
                f"got {self.store} with durability 'none', which keeps sessions in memory and "
                "takes no store; omit one of the two.",
            )
        if self.durability != "none" and self.store is None:
            raise ConfigError("store", "got none, expected a directory, or durability 'none'.")
        if self.store is not None:
            levels = POSTGRES_LEVELS if is_address(self.store) else _OF_DIRECTORIES
            if self.durability not in (None, *levels):
                raise ConfigError(
                    "durability",
                    f"got {self.durability!r} with --store {self.store}, expected one of "
                    f"{', '.join(levels)}.",
                )
        for name in ("idle_ttl_s", "oip_idle_ttl_s"):
            value = getattr(self, name)
            if not 0 < value <= self.limits.max_idle_ttl_s:
                raise ConfigError(
                    name,
                    f"got {value}, expected above 0 and at most {self.limits.max_idle_ttl_s}.",
                )
        for name in ("retention_s", "grace_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(name, f"got {value}, expected 0 or more.")
        # Less is not worth a file's head.
        if not 0.001 <= self.record_limit_gb <= _MOST_GB:
            raise ConfigError(
                "record_limit_gb",
                f"got {self.record_limit_gb}, expected 0.001 to {_MOST_GB:g}.",
            )
        if not 0 <= self.busy_poll_us <= _LONGEST_BUSY_US:
            raise ConfigError(
                "busy_poll_us", f"got {self.busy_poll_us}, expected 0 to {_LONGEST_BUSY_US:.0f}."
            )
        self._check_workers()
        self._check_access()

    def _check_workers(self) -> None:
        if self.workers < 1:
            raise ConfigError("workers", f"got {self.workers}, expected at least 1.")
        if self.workers > 1 and self.durability == "none":
            raise ConfigError(
                "workers",
                f"got {self.workers} with durability 'none', whose sessions are in the memory of "
                "one process; omit one of the two.",
            )
        if self.workers > 1 and self.listen.startswith("unix:"):
            raise ConfigError(
                "workers",
                f"got {self.workers} with --listen {self.listen}, but a unix socket cannot be "
                "shared; listen on HOST:PORT, such as localhost:50061.",
            )
        if self.workers > 1 and self.control == "explicit":
            raise ConfigError(
                "workers",
                f"got {self.workers} with --model-control explicit, but a call that loads or "
                "unloads reaches one worker only; use --model-control watch.",
            )

    def _check_access(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            raise ConfigError(missing, "is missing; a certificate and its key go together.")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ConfigError("tls_client_ca", "needs --tls-certificate and --tls-key too.")
        # gRPC takes milliseconds as 32 bits.
        if not 1 <= self.connection_age_s <= _LONGEST_AGE_S:
            raise ConfigError(
                "connection_age_s",
                f"got {self.connection_age_s}, expected 1 to {_LONGEST_AGE_S:g}.",
            )
        if self.callers is not None and self.tls_client_ca is None and self.tokens is None:
            raise ConfigError("callers", "needs --tokens or --tls-client-ca, to identify callers.")
