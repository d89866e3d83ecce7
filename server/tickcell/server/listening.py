"""The address that the server listens on: `HOST:PORT`, or `unix:PATH`."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import pathlib
import socket
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tickcell.server.config import Config

_UNIX = "unix:"
# Of the addresses that are proposed.
_PORTS = {"--listen": 50061, "--metrics": 9464}
# Why an address that other machines reach is refused, and the way out.
_PLAIN_TEXT = {
    "--listen": "where others can read and change plain text; give --tls-certificate and "
    "--tls-key, or --insecure to allow it.",
    "--metrics": "where everyone who reaches it can read the metrics; give --insecure to allow it.",
}


class ListenError(OSError):
    """The address cannot be listened on."""


def check_free(address: str) -> None:
    """Raises unless the address can be listened on; clears a dead server's socket file.

    gRPC alone would not tell: it is content with one of a host's addresses, and takes
    a socket file from a living server.

    Raises:
      ListenError: it is malformed, taken, not ours or not allowed.
    """
    if address.startswith(_UNIX):
        _check_unix(pathlib.Path(address.removeprefix(_UNIX)))
    else:
        _check_tcp(address)


def require_loopback(address: str, flag: str = "--listen") -> None:
    """Raises unless the address is reached from this machine alone.

    Args:
      address: to be listened on.
      flag: names the address in what is raised.

    Raises:
      ListenError: it is malformed, or others reach it.
    """
    if address.startswith(_UNIX):
        return
    for *_, where in _found(address, flag):
        # Of an address that is bound to an interface, as in fe80::1%eth0.
        host = str(where[0]).partition("%")[0]
        if not ipaddress.ip_address(host).is_loopback:
            raise ListenError(f"{flag}: other machines can reach {address}, {_PLAIN_TEXT[flag]}")


def bound(address: str, port: int) -> str:
    """Returns the address as a client would name it, with the port that was bound."""
    if address.startswith(_UNIX):
        return address
    host, _, _ = address.rpartition(":")
    return f"{host}:{port}"


def listen(address: str, flag: str) -> list[socket.socket]:
    """Listens on all that `HOST:PORT` stands for, on one port; port 0 for any free one.

    Args:
      address: where.
      flag: names the address in what is raised.

    Raises:
      ListenError: it cannot be listened on.
    """
    return _opened(address, flag, _listening)


def listen_for_metrics(config: Config) -> list[socket.socket]:
    """Listens where a server shows its metrics; nowhere if that was not asked for.

    Raises:
      ListenError: it cannot be listened on, or not in plain text.
    """
    if config.metrics is None:
        return []
    # As for callers: who has TLS for these has thought of who reaches the machine.
    if config.tls_certificate is None and not config.insecure:
        require_loopback(config.metrics, "--metrics")
    return listen(config.metrics, "--metrics")


def reserve(address: str) -> tuple[str, list[socket.socket]]:
    """Takes a TCP address for processes of this user that share it; listens nowhere itself.

    The kernel spreads connections over those that listen (SO_REUSEPORT).

    Returns:
      The address with the port that was bound, and the sockets that hold it.

    Raises:
      ListenError: it is malformed, taken or not ours.
    """
    sockets = _opened(address, "--listen", _reserved)
    return bound(address, sockets[0].getsockname()[1]), sockets


def name_of(listener: socket.socket) -> str:
    """Returns the `HOST:PORT` of a socket."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def as_called(address: str) -> str:
    """Returns a bound address as a client on this machine calls it.

    All of a machine's addresses, which 0.0.0.0 and [::] stand for, are none to call.
    """
    host, _, port = address.rpartition(":")
    try:
        is_every = ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        is_every = False
    return f"localhost:{port}" if is_every else address


def _found(address: str, flag: str = "--listen") -> list[tuple[Any, ...]]:
    """Returns what a TCP address stands for, as `socket.getaddrinfo` does."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 2**16):
        raise ListenError(
            f"{flag}: got {address!r}, expected HOST:PORT such as localhost:{_PORTS[flag]} or "
            f"[::]:{_PORTS[flag]}{', or unix:PATH' if flag == '--listen' else ''}."
        )
    try:
        return socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ListenError(f"{flag}: the host {host!r} is not known: {error.strerror}.") from error


def _opened(
    address: str, flag: str, open_one: Callable[[int, tuple[Any, int]], socket.socket]
) -> list[socket.socket]:
    """Opens a socket for each of an address's meanings, on one port."""
    with contextlib.ExitStack() as undo:
        opened: list[socket.socket] = []
        found = _found(address, flag)
        for family, *_, where in found:
            port = opened[0].getsockname()[1] if opened else where[1]
            try:
                one = open_one(family, (where[0], port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    continue
                raise ListenError(_refused(address, error, flag)) from error
            opened.append(undo.enter_context(one))
        if not opened:
            raise ListenError(f"{flag}: {address} is not an address of this machine.")
        undo.pop_all()
    return opened


def _is_dual(host: str) -> bool:
    """Whether a host stands for all addresses of both families, as it does for gRPC."""
    return host == "::" and socket.has_dualstack_ipv6()


def _listening(family: int, where: tuple[Any, int]) -> socket.socket:
    return socket.create_server(where, family=family, dualstack_ipv6=_is_dual(where[0]))


def _reserved(family: int, where: tuple[Any, int]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not _is_dual(where[0])))
        # Bound as if it were for one, so that whoever has it is noticed, and shared from
        # then on; but for the last wait of closed connections, which disturbs nobody.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(where)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        one.close()
        raise
    return one


def _check_tcp(address: str) -> None:
    found = _found(address)
    for family, kind, protocol, _, where in found:
        with socket.socket(family, kind, protocol) as probe:
            # As the server binds: a port in the last wait of a closed connection is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(where)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                    continue
                raise ListenError(_refused(address, error)) from error


def _refused(address: str, error: OSError, flag: str = "--listen") -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{flag}: {address} is taken by another process; stop it, or choose another port."
    return f"{flag}: {address} cannot be listened on: {os.strerror(error.errno or 0)}."


def _check_unix(path: pathlib.Path) -> None:
    if not path.name or len(os.fsencode(path)) > 107:
        raise ListenError(
            f"--listen: got the socket path {str(path)!r}, expected one of 1 to 107 bytes."
        )
    if not path.parent.is_dir():
        raise ListenError(f"--listen: the directory {path.parent} does not exist.")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(f"--listen: {path} exists and is not a socket; choose another path.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise ListenError(_refused(f"unix:{path}", error)) from error
    raise ListenError(
        f"--listen: unix:{path} is in use by a running server; stop it, or choose another path."
    )
