"""A client of the port for metrics and probes: well-behaved, or none of it."""

from __future__ import annotations

import http.client
import socket
from typing import NamedTuple

# Longer than anything here takes, so that a hang is a failure.
PATIENCE_S = 30.0


class Answer(NamedTuple):
    """What a request was answered with."""

    status: int
    content_type: str
    body: str


def fetch(address: str, path: str, method: str = "GET") -> Answer:
    """Asks for a page."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        content_type = response.getheader("Content-Type", "")
        return Answer(response.status, content_type, response.read().decode())
    finally:
        connection.close()


def connect(address: str) -> socket.socket:
    """Opens a connection on which nothing is sent yet."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def status_of(address: str, request: bytes) -> int | None:
    """Sends any bytes, and returns the status of the answer; None if there is none."""
    with connect(address) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            # It was closed on us, with what we sent still unread.
            return None
    return int(answer.split()[1]) if answer else None
