"""A stream of single steps with threads: a request goes out, and its reply is waited for."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from tickcell.client import at_exit, grpc_errors, methods, watchdog
from tickcell.client.due import Due, ended

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tickcell.client import errors
    from tickcell.client.connection import Connection


class StepStream:
    """An open stream; see `TurnStream`.

    For one caller's thread; the watchdog's looks at it beside.

    Attributes:
      connection: the one that it is on.
    """

    def __init__(self, connection: Connection, session: str, deadline_s: float) -> None:
        """Opens it; nothing is sent yet."""
        self.connection = connection
        # Guards when it is due: a request that goes out just then is not given up.
        self._lock = threading.Lock()
        self._due = Due(deadline_s, time.monotonic())
        self._requests = queue.SimpleQueue[Any]()
        self._watchdog = watchdog.current()
        self._owner = at_exit.Owner(self)
        # gRPC's own thread waits there for the next request, and ends at a None.
        self._call: Any = connection.stream(
            methods.STREAM_STEPS, session, iter(self._requests.get, None)
        )
        self._watchdog.watch(self)

    @property
    def is_over(self) -> bool:
        """Whether it was given up."""
        return self._due.is_over

    def exchange(self, request: Message) -> Any:
        """Sends a request, and returns the reply to it.

        Raises:
          LostError: there was none in time, or the stream broke off.
          RefusedError: the server ended the stream for this.
        """
        due = self._due
        with self._lock:
            if due.is_over:
                raise ended()
            due.begin(time.monotonic())
        self._watchdog.expect(due.at)
        self._requests.put(request)
        try:
            reply = next(self._call)
        except StopIteration:
            raise ended() from None
        except grpc.RpcError as error:
            raise (due.failure() if due.is_over else grpc_errors.from_call(error)) from None
        due.end(time.monotonic())
        return reply

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
        # In a forked child, the watchdog may hold the lock for ever.
        if self._owner.may_close():
            with self._lock:
                self._due.is_over = True
            self._watchdog.forget(self)
            self._end()

    def close(self) -> None:
        """Ends it with the interpreter."""
        self.drop()

    def _end(self) -> None:
        self._requests.put(None)
        self._call.cancel()
