"""A peer that speaks HTTP/2 frame by frame, and so can do what no gRPC client does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE = 4
_HEAD = struct.Struct(">I")


class RawPeer:
    """A connection of which a thread reads what comes, and answers pings.

    Attributes:
      has_heard: set once a frame of a call has come.
      has_ended: set once the connection has ended.
      goodbye: the text with which the server said that it would end it, if it did.
    """

    def __init__(self, address: str, *, window_bytes: int = 65535) -> None:
        """Connects.

        Args:
          address: of the server, `HOST:PORT`.
          window_bytes: how much of a call's answer the server may send, since the peer never
            says that it has read any.
        """
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self.has_heard = threading.Event()
        self.has_ended = threading.Event()
        self.goodbye = b""
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, window_bytes)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, payload=settings))
        self._reader = threading.Thread(target=self._read, name="raw peer")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # It may have ended by itself.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def call(self, path: bytes, request: bytes = b"", **metadata: bytes) -> None:
        """Calls a unary method on the connection's first stream."""
        headers = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": path,
            b":authority": b"raw",
            b"te": b"trailers",
            b"content-type": b"application/grpc",
            **{name.encode(): value for name, value in metadata.items()},
        }
        block = b"".join(
            b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
            for name, value in headers.items()
        )
        message = b"\0" + _HEAD.pack(len(request)) + request
        self._socket.sendall(
            _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, _END_STREAM, 1, message)
        )

    def ping(self) -> None:
        """Sends a ping, if the connection has not ended."""
        with contextlib.suppress(OSError):
            self._socket.sendall(_frame(_PING, payload=bytes(8)))

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as incoming:
            while head := incoming.read(9):
                payload = incoming.read(_HEAD.unpack(b"\0" + head[:3])[0])
                kind, flags = head[3], head[4]
                if kind == _PING and not flags & _ACK:
                    self._socket.sendall(_frame(_PING, _ACK, payload=payload))
                elif kind == _GOAWAY:
                    self.goodbye = payload[8:]
                elif any(head[5:9]):
                    self.has_heard.set()
        self.has_ended.set()


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload))[1:] + bytes([kind, flags]) + _HEAD.pack(stream) + payload
