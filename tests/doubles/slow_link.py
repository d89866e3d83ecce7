"""A link that is slow, heals late, or is dead without a word: bytes come late, or not at all."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time


class SlowLink:
    """Forwards TCP connections to a server, each byte late by half of a round trip.

    Attributes:
      address: of its own.
      connections: how many were made through it.
      round_trip_s: by how much a round trip is longer; may be changed at any time.
    """

    def __init__(self, target: str, *, round_trip_s: float = 0.0) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.round_trip_s = round_trip_s
        self._is_alive = threading.Event()
        self._is_alive.set()
        self._is_flowing = threading.Event()
        self._is_flowing.set()
        # How often it has died: what was connected before, stays dead.
        self._deaths = 0
        self._sockets: list[socket.socket] = []
        self._ended: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, name="slow link", daemon=True).start()

    def close(self) -> None:
        """Ends all connections, and takes no more."""
        self._listener.close()
        self.release()
        self.cut()
        for each in self._ended:
            each.close()

    def cut(self) -> None:
        """Ends all connections; who made one is told."""
        ended, self._sockets = self._sockets, []
        for each in ended:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        # Threads may still be on their way out of them.
        self._ended += ended

    def hold(self) -> None:
        """Keeps what is sent, either way, until `release`; nobody is told."""
        self._is_flowing.clear()

    def release(self) -> None:
        """Delivers what was kept, however old, and what comes from now on."""
        self._is_flowing.set()

    def die(self) -> None:
        """Lets nothing through any more, and tells nobody."""
        self._is_alive.clear()
        self._deaths += 1

    def revive(self) -> None:
        """Lets new connections through; those from before stay dead, and nobody knows."""
        self._is_alive.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._is_alive.wait()
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    # Nobody is there now; who connects is told so.
                    near.close()
                    continue
                self.connections += 1
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._forward(source, sink, self._deaths)

    def _forward(self, source: socket.socket, sink: socket.socket, deaths: int) -> None:
        """Forwards one way, in two threads: the one reads while the other waits."""
        on_the_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def read() -> None:
            data = b"any"
            while data:
                try:
                    data = source.recv(65536)
                except OSError:
                    data = b""
                on_the_way.put((time.monotonic() + self.round_trip_s / 2, data))

        def deliver() -> None:
            while True:
                due, data = on_the_way.get()
                time.sleep(max(0.0, due - time.monotonic()))
                self._is_flowing.wait()
                if self._deaths != deaths:
                    continue
                with contextlib.suppress(OSError):
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)

        for work in (read, deliver):
            threading.Thread(target=work, name="slow link", daemon=True).start()
