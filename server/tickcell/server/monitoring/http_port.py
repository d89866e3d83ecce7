"""A port that shows pages over HTTP, in a thread of its own.

It must answer when the event loop does not, and must harm nothing, whatever is sent to
it: a request has to be here whole within seconds and fit in some KiB, of many connections
the oldest is closed, and no more are accepted a second than cost the event loop little.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import socket
import threading
from typing import TYPE_CHECKING

import h11

from tickcell.server.monitoring.pages import Page

if TYPE_CHECKING:
    from tickcell.server.monitoring.pages import Pages

_LIMIT_S = 5.0
_MAX_HEAD_BYTES = 8 * 1024
_READ_BYTES = 4 * 1024
MAX_OPEN = 64
# Between two connections: 200 a second, each at a fraction of a millisecond.
PACE_S = 0.005
_AFTER_FAILURE_S = 1.0
_TEXT = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)


class HttpPort:
    """Answers GET and HEAD with pages, one request a connection."""

    def __init__(
        self, listeners: list[socket.socket], pages: Pages, limit_s: float = _LIMIT_S
    ) -> None:
        """Begins to answer.

        Args:
          listeners: are listened on already, and closed at the end.
          pages: by path.
          limit_s: how long a request may take, from connection to answer.
        """
        self._listeners = listeners
        self._limit_s = limit_s
        self._pages = pages
        self._open: dict[asyncio.Task[None], None] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answers no more, and waits for the thread to end."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop), contextlib.ExitStack() as sockets:
            tasks = []
            for listener in self._listeners:
                listener.setblocking(False)
                sockets.enter_context(listener)
                tasks.append(self._loop.create_task(self._accept(listener)))
            self._loop.run_forever()
            tasks += self._open
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError as error:
                # No more files may be open, or the caller has left again.
                _log.warning("the port for metrics cannot accept a connection: %s", error)
                await asyncio.sleep(_AFTER_FAILURE_S)
                continue
            task = self._loop.create_task(self._converse(connection))
            self._open[task] = None
            task.add_done_callback(self._open.pop)
            if len(self._open) > MAX_OPEN:
                next(iter(self._open)).cancel()
            await asyncio.sleep(PACE_S)

    async def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, TimeoutError):
            connection.setblocking(False)
            async with asyncio.timeout(self._limit_s):
                await self._answer(connection)

    async def _answer(self, connection: socket.socket) -> None:
        """Reads a request, and answers it unless its sender leaves before it is whole."""
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        method = b"GET"
        try:
            event = protocol.next_event()
            while event is h11.NEED_DATA:
                protocol.receive_data(await self._loop.sock_recv(connection, _READ_BYTES))
                event = protocol.next_event()
            if not isinstance(event, h11.Request):
                return
            method = event.method
            page = self._page(method, event.target)
        except h11.RemoteProtocolError as error:
            page = _plain(http.HTTPStatus(error.error_status_hint), str(error))
        await self._loop.sock_sendall(connection, _encoded(protocol, page, method))

    def _page(self, method: bytes, target: bytes) -> Page:
        if method not in (b"GET", b"HEAD"):
            return _plain(http.HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are answered")
        make = self._pages.get(target.partition(b"?")[0].decode("ascii"))
        if make is None:
            return _plain(http.HTTPStatus.NOT_FOUND, f"there are: {' '.join(self._pages)}")
        try:
            return make()
        except Exception:  # noqa: BLE001 - the edge: logged here, answered without the traceback.
            _log.exception("a page failed")
            return _plain(http.HTTPStatus.INTERNAL_SERVER_ERROR, "the server's log says why")


def _plain(status: http.HTTPStatus, text: str) -> Page:
    return Page(status, _TEXT, f"{text}\n".encode())


def _encoded(protocol: h11.Connection, page: Page, method: bytes) -> bytes:
    headers = [
        ("Content-Type", page.content_type),
        ("Content-Length", str(len(page.body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    if page.status is http.HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    response = h11.Response(
        status_code=page.status, headers=headers, reason=page.status.phrase.encode()
    )
    head = protocol.send(response) or b""
    if method == b"HEAD":
        return head
    return head + (protocol.send(h11.Data(data=page.body)) or b"")
