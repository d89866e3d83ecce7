"""A stream of turns with threads: requests go out, and the reply to the oldest is waited for.

The caller's thread runs none of gRPC's code: Ctrl-C interrupts that thread, and inside
gRPC it would leave a lock held, so that all calls of the channel would wait for ever. So
gRPC hands over each reply as it decodes it, which is also sooner than it wakes a reader.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from tickcell.client import at_exit, errors, grpc_errors, methods, watchdog
from tickcell.client.due import Due, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from tickcell.client.connection import Connection


class StepStream:
    """An open stream; see `TurnStream`.

    For one caller's thread. A thread of its own opens and reads it; the watchdog's ends it.

    Attributes:
      connection: the one that it is on.
    """

    def __init__(self, connection: Connection, session: str, deadline_s: float) -> None:
        """Begins to open it."""
        self.connection = connection
        self._session = session
        self._timeout_s = None if deadline_s == math.inf else deadline_s
        # Guards when it is due: a request that goes out just then is not given up.
        self._lock = threading.Lock()
        self._due = Due(deadline_s, time.monotonic())
        # gRPC's own thread waits there for the next request, and ends at a None.
        self._requests = queue.SimpleQueue[Any]()
        # As bytes; at last, why there are no more.
        self._replies = queue.SimpleQueue[bytes | Exception]()
        self._call: Any = None
        self._watchdog = watchdog.current()
        self._owner = at_exit.Owner(self)
        self._reader = threading.Thread(target=self._read, name="tickcell-replies", daemon=True)
        self._reader.start()
        self._watchdog.watch(self)

    @property
    def is_over(self) -> bool:
        """Whether it was given up."""
        return self._due.is_over

    def exchange(self, requests: Sequence[Message], meanwhile: Callable[[], object]) -> Any:
        """Sends requests, and returns the reply to the oldest that has none; see `TurnStream`.

        Raises:
          LostError: there was none in time, or the stream broke off.
          RefusedError: the server ended the stream for this.
        """
        due = self._due
        with self._lock:
            if due.is_over:
                raise ended()
            due.begin(time.monotonic())
        for request in requests:
            self._requests.put(request)
        meanwhile()
        try:
            reply = self._replies.get(timeout=self._timeout_s)
        except queue.Empty:
            due.look(math.inf)
            raise due.failure() from None
        if not isinstance(reply, bytes):
            raise due.failure() if due.is_over else reply
        due.end(time.monotonic())
        return methods.STREAM_STEPS.decode(reply)

    def failure(self) -> errors.LostError:
        """Returns the failure of a request that waited when the stream was given up."""
        return self._due.failure()

    def look(self, now: float) -> float | None:
        """Ends it if it is due, in the watchdog's thread; returns when it is due else."""
        with self._lock:
            if not self._due.look(now):
                return self._due.at
        self._end()
        return None

    def drop(self) -> None:
        """Ends it, and waits for nothing; once more is nothing."""
        # In a forked child, another thread may hold the lock for ever.
        if self._owner.may_close():
            with self._lock:
                self._due.is_over = True
            self._watchdog.wake()

    def close(self) -> None:
        """Ends it with the interpreter, while its threads run still."""
        if self._owner.may_close():
            self._end()
            if self._reader.ident is not None:
                self._reader.join()

    def _end(self) -> None:
        with self._lock:
            self._due.is_over = True
            call = self._call
        self._requests.put(None)
        if call is not None:
            call.cancel()

    def _read(self) -> None:
        """Opens the stream and reads it to its end; what ends it else is raised, too."""
        failure: Exception = ended()
        try:
            for _ in self._opened():
                pass
        except grpc.RpcError as error:
            failure = grpc_errors.from_call(error)
        except Exception as fault:  # noqa: BLE001 - told to whoever waits
            failure = grpc_errors.closed() if self.connection.is_closed else fault
        self._replies.put(failure)
        self._requests.put(None)

    def _opened(self) -> Any:
        """Returns the call, which iterates over the replies that were handed over."""
        requests = iter(self._requests.get, None)
        call = self.connection.stream(
            methods.STREAM_STEPS, self._session, requests, decode=self._hand_over
        )
        with self._lock:
            self._call = call
            is_over = self._due.is_over
        if is_over:
            call.cancel()
        return call

    def _hand_over(self, reply: bytes) -> bytes:
        self._replies.put(reply)
        return reply
