"""Access: how connections are made, who calls, and what owners may take.

What it goes by are files that may change while the server serves; see `files`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import pathlib
import urllib.parse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tickcell.server.caller import ANYBODY, Caller
from tickcell.server.errors import caller_unknown
from tickcell.server.files import Files
from tickcell.server.owners import Owners
from tickcell.server.quotas import Quotas
from tickcell.server.tls import Tls, certificate_name
from tickcell.server.tokens import Tokens

if TYPE_CHECKING:
    import grpc

    from tickcell.server.config import Config

    Context = grpc.aio.ServicerContext[Any, Any]

_PERIOD_S = 1.0
_NOBODY = Owners()


class Access:
    """Knows callers by their tokens and certificates, where it is to tell them apart.

    Attributes:
      quotas: what owners may take.
    """

    def __init__(
        self,
        tls: Tls | None = None,
        tokens: Files[Tokens] | None = None,
        owners: Files[Owners] | None = None,
        *,
        asks_certificates: bool = False,
    ) -> None:
        """Goes by what was read; see `of`."""
        self._tls = tls
        self._tokens = tokens
        self._owners = owners
        self._asks_certificates = asks_certificates
        self.quotas = Quotas(self._who)

    @classmethod
    def of(cls, config: Config) -> Access:
        """Reads the files that a configuration names.

        Raises:
          FileError: one of them cannot be used.
        """
        tls = None
        if config.tls_certificate is not None and config.tls_key is not None:
            tls = Tls(config.tls_certificate, config.tls_key, config.tls_client_ca)
        return cls(
            tls,
            _files("--tokens", config.tokens, Tokens.parse),
            _files("--callers", config.callers, Owners.parse),
            asks_certificates=config.tls_client_ca is not None,
        )

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """Returns what gRPC makes connections with; None for plain text."""
        return None if self._tls is None else self._tls.server_credentials()

    def caller_of(self, context: Context) -> Caller:
        """Returns who calls.

        A token, where tokens are known and one is sent, goes before the certificate.

        Raises:
          CallerUnknown: nobody whom the server knows.
        """
        if self._tokens is None and not self._asks_certificates:
            return ANYBODY
        return self._who.caller(self._name_of(context))

    async def keep_looking(
        self, changed: Callable[[], object], period_s: float = _PERIOD_S
    ) -> None:
        """Looks each period for files that changed, until it is cancelled.

        Args:
          changed: is called where callers may be others than they were.
          period_s: in seconds.
        """
        while any(self._followed()):
            await asyncio.sleep(period_s)
            if await asyncio.to_thread(self._look):
                self.quotas.follow(self._who)
                changed()

    def __str__(self) -> str:
        """Says who may call and how, for the banner."""
        how = "in plain text" if self._tls is None else "with TLS"
        who = [] if self._tokens is None else [f"one of {len(self._tokens.value)} tokens"]
        if self._asks_certificates:
            who = ["a certificate", *who]
        return f"{how}, from {'whoever has ' + ' or '.join(who) if who else 'anybody'}"

    @property
    def _who(self) -> Owners:
        return _NOBODY if self._owners is None else self._owners.value

    def _followed(self) -> Iterator[Tls | Files[Tokens] | Files[Owners]]:
        for each in (self._tls, self._tokens, self._owners):
            if each is not None:
                yield each

    def _look(self) -> bool:
        """Reads what changed; says whether callers may be others than they were."""
        changed = {id(each) for each in self._followed() if each.look()}
        return bool(changed - {id(self._tls)})

    def _name_of(self, context: Context) -> str:
        if self._tokens is not None:
            token = _token(context)
            if token is not None:
                if self._tls is None and not _is_loopback(context.peer()):
                    raise caller_unknown(
                        "its token came over plain text from another machine, so others may have "
                        "read it; use TLS, and replace the token."
                    )
                name = self._tokens.value.name_of(token)
                if name is None:
                    raise caller_unknown("its token is not in the server's file.")
                return f"token:{name}"
        if self._asks_certificates:
            return f"cert:{certificate_name(context.auth_context())}"
        raise caller_unknown("it sends no token; send one as 'authorization: Bearer TOKEN'.")


def _files(flag: str, path: pathlib.Path | None, parse: Callable[[bytes], Any]) -> Any:
    return None if path is None else Files(flag, (path,), parse)


def _token(context: Context) -> str | None:
    """Returns the token that a call brings; None if there is none.

    Raises:
      CallerUnknown: it shows something else, or more than one.
    """
    shown = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if not shown:
        return None
    scheme, _, token = str(shown[0]).partition(" ")
    if len(shown) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise caller_unknown("its authorization is not of the form 'Bearer TOKEN'.")
    return token.strip()


def _is_loopback(peer: str) -> bool:
    """Says whether a peer, as gRPC names it, is on this machine."""
    kind, _, place = urllib.parse.unquote(peer).partition(":")
    if kind == "unix":
        return True
    host = place.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
