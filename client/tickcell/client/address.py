"""Addresses of servers: whether each can be one, and whether it is on this machine."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket
from collections.abc import Sequence

from tickcell.client import errors

DEFAULT_ADDRESS = "localhost:50061"

_TCP = re.compile(r"(?:\[(?P<v6>[^\]\s]+)\]|(?P<name>[\w.-]+)):(?P<port>[0-9]{1,5})")
_UNIX = re.compile(r"unix:.+")
# What a resolver would take for an IPv4 address, in forms such as 127.1.
_NUMBERS = re.compile(r"[0-9.]+|0[xX][0-9a-fA-F]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a server is.

    Attributes:
      text: as given, and as gRPC takes it.
      is_local: whether it is on this machine for all that can be told without asking
        the network; what is, is not reached through a proxy.
      is_loopback: whether it is surely reached without any network.
    """

    text: str
    is_local: bool
    is_loopback: bool

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Address:
    """Returns the address that a text stands for.

    Raises:
      AddressError: it stands for none.
    """
    if not isinstance(text, str):
        raise _refused(text, "expected a string")
    if _UNIX.fullmatch(text):
        return Address(text, is_local=True, is_loopback=True)
    match = _TCP.fullmatch(text)
    if match is None:
        raise _refused(text, "expected HOST:PORT or unix:PATH")
    if not 1 <= int(match["port"]) <= 65535:
        raise _refused(text, "expected a port from 1 to 65535")
    if match["v6"] is not None:
        try:
            ip = ipaddress.IPv6Address(match["v6"])
        except ValueError as error:
            raise _refused(text, "expected an IPv6 address in the brackets") from error
        return _of_ip(text, ip)
    name = match["name"]
    if _NUMBERS.fullmatch(name):
        try:
            return _of_ip(text, ipaddress.IPv4Address(name))
        except ValueError as error:
            raise _refused(text, "expected four numbers from 0 to 255 before the port") from error
    if not all(name.removesuffix(".").split(".")):
        raise _refused(text, "expected a host name before the port")
    name = name.lower().removesuffix(".")
    is_loopback = name == "localhost" or name.endswith(".localhost")
    return Address(text, is_local=is_loopback or _is_own_name(name), is_loopback=is_loopback)


def parse_all(given: str | Sequence[str]) -> tuple[Address, ...]:
    """Returns the addresses that are given: one text with commas between them, or each by itself.

    Raises:
      AddressError: one of them can be no address, one is there twice, or none.
    """
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        raise _refused(given, "expected a string, or a list of them")
    texts = given.split(",") if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in texts):
        raise _refused(given, "expected a string, or a list of them")
    parsed = tuple(map(parse, texts))
    if not parsed:
        raise _refused(given, "expected at least one")
    if len(set(parsed)) < len(parsed):
        raise _refused(given, "expected each of them once")
    return parsed


def _refused(text: object, expected: str) -> errors.AddressError:
    return errors.AddressError(f"server address: got {text!r}, {expected}.")


def _of_ip(text: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Address:
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    # 0.0.0.0 and [::] reach whoever listens on this machine.
    is_loopback = ip.is_loopback or ip.is_unspecified
    return Address(text, is_local=is_loopback or _is_own(ip), is_loopback=is_loopback)


def _is_own(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of this machine's."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        # Only an own address can be bound to. No packet is sent.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True


def _is_own_name(name: str) -> bool:
    own = socket.gethostname().lower()
    if name in {own, own.partition(".")[0]}:
        return True
    # The whole name is asked for only where it may be ours.
    return name.partition(".")[0] == own.partition(".")[0] and name == socket.getfqdn().lower()
