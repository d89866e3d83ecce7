"""The callers file: to which owner and role a caller belongs, and what an owner may take.

    refused = ["token:old-robot"]

    [callers]
    "cert:spiffe://plant/robot-7" = { owner = "robot-7" }
    "cert:spiffe://plant/robot-7-standby" = { owner = "robot-7" }
    "token:night-shift" = { role = "operator" }

    [limits]
    max_sessions = 100
    max_ticks_per_s = 1000

    [owners.robot-7]
    max_sessions = 2

All of it may be left out. A caller that is not named has its own name for an owner.
`limits` are those of every owner that `owners` does not say otherwise of.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from tickcell.server import errors
from tickcell.server.caller import Caller, Role
from tickcell.server.files import FileError

# So that owners, which are part of each key in the store, stay short.
MAX_BYTES = 255

_KINDS = ("cert:", "token:")
_ROLES = get_args(Role)


class OwnerLimits(NamedTuple):
    """What one owner may take.

    Attributes:
      max_sessions: sessions that may be alive; None for as many as the store may have.
      max_ticks_per_s: steps a second, of all its sessions together; None for any number.
    """

    max_sessions: int | None = None
    max_ticks_per_s: float | None = None


class Owners:
    """What a callers file says; of an empty one, what goes without saying."""

    def __init__(
        self,
        callers: Mapping[str, Caller] | None = None,
        refused: frozenset[str] = frozenset(),
        default: OwnerLimits = OwnerLimits(),  # noqa: B008 - a value.
        limits: Mapping[str, OwnerLimits] | None = None,
    ) -> None:
        self._callers = callers or {}
        self._refused = refused
        self._default = default
        self._limits = limits or {}

    @classmethod
    def parse(cls, content: bytes) -> Owners:
        """Reads a callers file.

        Raises:
          FileError: it is none; the text says where and why.
        """
        try:
            read = tomllib.loads(content.decode())
        except UnicodeDecodeError as error:
            raise FileError("is not UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise FileError(f"is not TOML: {error}") from error
        _check_names("", read, {"refused", "callers", "limits", "owners"})
        refused = read.get("refused", [])
        if not isinstance(refused, list):
            raise FileError(f"refused: got {refused!r}, expected a list of names")
        default = _limits("limits", read.get("limits", {}), OwnerLimits())
        return cls(
            {name: _caller(name, given) for name, given in _table("callers", read).items()},
            frozenset(_name("refused", name) for name in refused),
            default,
            {
                _owner(f"owners.{owner!r}", owner): _limits(f"owners.{owner!r}", given, default)
                for owner, given in _table("owners", read).items()
            },
        )

    def caller(self, name: str) -> Caller:
        """Returns the caller of this name.

        Raises:
          CallerUnknown: it is refused.
        """
        if name in self._refused:
            raise errors.caller_unknown(f"{name} is refused by the server's callers file.")
        return self._callers.get(name) or Caller(name, name)

    def limits(self, owner: str) -> OwnerLimits:
        """Returns what an owner may take."""
        return self._limits.get(owner, self._default)

    @property
    def have_rates(self) -> bool:
        """Whether any owner's ticks are limited."""
        limits = (self._default, *self._limits.values())
        return any(each.max_ticks_per_s is not None for each in limits)


def _caller(name: str, given: Any) -> Caller:
    _name("callers", name)
    where = f"callers.{name!r}"
    if not isinstance(given, dict):
        raise FileError(f"{where}: got {given!r}, expected a table such as {{ owner = 'fleet' }}")
    _check_names(f"{where}.", given, {"owner", "role"})
    role = given.get("role", "client")
    if role not in _ROLES:
        raise FileError(f"{where}.role: got {role!r}, expected one of {', '.join(_ROLES)}")
    return Caller(_owner(f"{where}.owner", given.get("owner", name)), name, role)


def _limits(where: str, given: Any, default: OwnerLimits) -> OwnerLimits:
    if not isinstance(given, dict):
        raise FileError(f"{where}: got {given!r}, expected a table")
    _check_names(f"{where}.", given, {*OwnerLimits._fields})
    sessions = given.get("max_sessions", default.max_sessions)
    ticks = given.get("max_ticks_per_s", default.max_ticks_per_s)
    # A boolean is an integer in Python.
    if sessions is not None and (type(sessions) is not int or sessions < 0):
        raise FileError(f"{where}.max_sessions: got {sessions!r}, expected a whole number from 0")
    if ticks is not None and (type(ticks) not in (int, float) or not 0 < ticks < math.inf):
        raise FileError(f"{where}.max_ticks_per_s: got {ticks!r}, expected a number above 0")
    return OwnerLimits(sessions, ticks)


def _name(where: str, name: Any) -> str:
    if not (isinstance(name, str) and name.startswith(_KINDS)):
        raise FileError(
            f"{where}: got {name!r}, expected a name that begins with {' or '.join(_KINDS)}"
        )
    return name


def _owner(where: str, owner: Any) -> str:
    if not (isinstance(owner, str) and is_owner(owner)):
        raise FileError(f"{where}: got {owner!r}, expected a text of at most {MAX_BYTES} bytes")
    return owner


def is_owner(text: str) -> bool:
    """Says whether a text can be an owner: short, and without control characters."""
    return len(text.encode(errors="replace")) <= MAX_BYTES and (text.isprintable() or not text)


def _table(name: str, read: dict[str, Any]) -> dict[str, Any]:
    table = read.get(name, {})
    if not isinstance(table, dict):
        raise FileError(f"{name}: got {table!r}, expected a table")
    return table


def _check_names(where: str, given: dict[str, Any], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise FileError(f"{where}{name}: is not known, expected {', '.join(sorted(known))}")
