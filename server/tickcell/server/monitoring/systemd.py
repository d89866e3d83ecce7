"""What a service says to systemd, as sd_notify(3) and sd_watchdog_enabled(3) have it."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Tells the service manager, without waiting; does nothing where none asks to be told.

    Args:
      state: assignments such as "READY=1", one a line.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # An at sign stands for the zero byte that an abstract socket's name begins with.
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(state.encode(), address)
    except OSError as error:
        _log.warning("could not notify the service manager at %s of %r: %s", path, state, error)


def watchdog_s() -> float | None:
    """Returns within how many seconds this process must give a sign of life; None for never."""
    time_us = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not (time_us.isdecimal() and int(time_us)) or pid not in ("", str(os.getpid())):
        return None
    return int(time_us) / 1e6
