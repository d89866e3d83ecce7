"""How a client verifies its server and identifies itself: TLS, its certificate, a token."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pathlib
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from tickcell.client import errors

if TYPE_CHECKING:
    import types

    from tickcell.client.address import Address

    Path = str | os.PathLike[str]

_log = logging.getLogger("tickcell.client")


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What a server is known by, and what it is shown.

    Files are read for each new connection. So a certificate that is renewed, or a token that
    is exchanged, needs no restart; one that cannot be read then is noted in the log, and what
    was read before still counts.

    Attributes:
      tls: whether to connect with TLS; always, where one of the next four is given.
      ca: the file of the authorities that the server's certificate may come from, PEM;
        None for those that gRPC trusts.
      certificate: the file of an own certificate, PEM, for a server that asks for one.
      key: the file of its key, PEM; both or none.
      server_name: the name that the server's certificate must have; "" for the host's.
      token: shown with each call; "" for none. Never over plain text to another machine.
      token_file: holds the token, instead.
    """

    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""
    token: str = dataclasses.field(default="", repr=False)
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise errors.CredentialsError(
                f"{missing}: is missing; a certificate and its key go together."
            )
        if self.token and self.token_file is not None:
            raise errors.CredentialsError(
                "token: got one beside a token_file, expected one of two."
            )
        if self.token:
            _check_token("token", self.token)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Credentials:
        """Returns what the variables say by which the commands go.

        They are TICKCELL_TLS (1 or 0), TICKCELL_CA, TICKCELL_CERTIFICATE, TICKCELL_KEY,
        TICKCELL_SERVER_NAME, TICKCELL_TOKEN and TICKCELL_TOKEN_FILE; one that is empty counts
        as not set.

        Raises:
          CredentialsError: they say what cannot be meant.
        """
        told = os.environ if environment is None else environment
        tls = told.get("TICKCELL_TLS", "").lower()
        if tls not in _YES | _NO:
            raise errors.CredentialsError(f"TICKCELL_TLS: got {tls!r}, expected 1 or 0.")
        return cls(
            tls=tls in _YES,
            ca=told.get("TICKCELL_CA") or None,
            certificate=told.get("TICKCELL_CERTIFICATE") or None,
            key=told.get("TICKCELL_KEY") or None,
            server_name=told.get("TICKCELL_SERVER_NAME", ""),
            token=told.get("TICKCELL_TOKEN", ""),
            token_file=told.get("TICKCELL_TOKEN_FILE") or None,
        )

    @property
    def uses_tls(self) -> bool:
        """Whether connections are made with TLS."""
        return self.tls or any((self.ca, self.certificate, self.server_name))

    @property
    def shows_token(self) -> bool:
        """Whether calls show a token."""
        return bool(self.token) or self.token_file is not None


NONE = Credentials()

_YES = {"1", "true", "yes", "on"}
_NO = {"", "0", "false", "no", "off"}


class Shown:
    """Credentials as they are at a moment, for the servers of one store."""

    def __init__(self, credentials: Credentials, servers: Sequence[Address]) -> None:
        """Reads all files for the first time.

        Raises:
          CredentialsError: one cannot be read or used, or a token would be shown over plain
            text to another machine.
        """
        for where in servers:
            if credentials.shows_token and not (credentials.uses_tls or where.is_loopback):
                raise errors.CredentialsError(
                    f"token: is not sent to {where} over plain text, where others could read it; "
                    "connect with TLS."
                )
        self._credentials = credentials
        self._token = self._read_token()
        self._tls = self._read_tls()
        self._complaint = ""

    def token(self) -> str:
        """Returns the token as it is now; "" for none."""
        self._read_anew()
        return self._token

    def channel(
        self,
        address: str,
        options: list[tuple[str, object]],
        transport: types.ModuleType = grpc,
    ) -> tuple[Any, str]:
        """Opens a channel with what the files hold now.

        Args:
          address: of the server.
          options: of the channel.
          transport: `grpc` or `grpc.aio`, whose channel it is.

        Returns:
          The channel, and the token that is shown on it.
        """
        self._read_anew()
        if not self._credentials.uses_tls:
            return transport.insecure_channel(address, options=options), self._token
        name = self._credentials.server_name
        named = [("grpc.ssl_target_name_override", name)] if name else []
        credentials = grpc.ssl_channel_credentials(*self._tls)
        channel = transport.secure_channel(address, credentials, options=[*options, *named])
        return channel, self._token

    def _read_anew(self) -> None:
        try:
            token, tls = self._read_token(), self._read_tls()
        except errors.CredentialsError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("%s The previous content still applies.", error)
            return
        self._token, self._tls, self._complaint = token, tls, ""

    def _read_token(self) -> str:
        path = self._credentials.token_file
        if path is None:
            return self._credentials.token
        try:
            token = _read("token_file", path).decode().strip()
        except UnicodeDecodeError as error:
            raise errors.CredentialsError(f"token_file: {path}: is not UTF-8.") from error
        _check_token(f"token_file: {path}", token)
        return token

    def _read_tls(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Returns the authorities, the key and the certificate, in gRPC's order."""
        own = self._credentials
        ca = None if own.ca is None else _read("ca", own.ca)
        key = None if own.key is None else _read("key", own.key)
        certificate = None if own.certificate is None else _read("certificate", own.certificate)
        read = (ca, key, certificate)
        _check_tls(own, read)
        return read


def _read(name: str, path: Path) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise errors.CredentialsError(f"{name}: {path}: {error.strerror}.") from error


def _check_token(where: str, token: str) -> None:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # Not what it is: it may be in a log.
        raise errors.CredentialsError(
            f"{where}: expected one token of printable ASCII characters without spaces."
        )


@functools.lru_cache(maxsize=8)
def _check_tls(own: Credentials, _: tuple[bytes | None, bytes | None, bytes | None]) -> None:
    """Raises unless gRPC can use what was read; it would only fail each connection.

    Once for the same contents: it is the files that are looked at.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if own.ca is not None:
            context.load_verify_locations(own.ca)
    except (ssl.SSLError, OSError) as error:
        raise errors.CredentialsError(f"ca: {own.ca}: has no certificates as PEM.") from error
    try:
        if own.certificate is not None and own.key is not None:
            context.load_cert_chain(own.certificate, own.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise errors.CredentialsError(
            f"certificate: {own.certificate} and {own.key} are not a certificate and its key, "
            f"unencrypted, as PEM ({error})."
        ) from error


def _no_password() -> str:
    # Without it, the terminal would be asked.
    raise ValueError("the key is encrypted")
