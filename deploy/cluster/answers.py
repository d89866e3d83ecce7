"""A program asked over HTTP whether it is ready."""

from __future__ import annotations

import http.client


def is_ok(address: str, path: str) -> bool:
    """Returns whether an address answers with a status of 200.

    Args:
      address: `HOST:PORT`.
      path: what is asked for.
    """
    connection = http.client.HTTPConnection(address, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
