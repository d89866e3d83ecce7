"""A delivery with threads: the carrier is one, gRPC has another, and the caller blocks."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from tickcell.client import at_exit, grpc_errors, methods
from tickcell.client.needs import Look, Open, Read, Work
from tickcell.client.pipeline_core import PipelineCore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.client.delivery import Outputs
    from tickcell.client.link import Link
    from tickcell.client.needs import StreamNeed, StreamOperation
    from tickcell.client.pipeline_core import Cargo

_T = TypeVar("_T")


class Pipeline(PipelineCore):
    """The steps of one session in flight, for one caller's thread; another one may push."""

    def __init__(self, link: Link, cargo: Cargo) -> None:
        """Prepares the next steps; the first frame opens the stream.

        Args:
          link: the way to the servers; the pipeline's alone from now on, and closed by it.
          cargo: the steps.
        """
        super().__init__(link.route, cargo)
        self._link = link
        # Who waits for what, so that nobody is woken in vain: gRPC's thread for a chunk to
        # send, and the carrier for a step to carry.
        self._chunks = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        # The caller waits in another way, which bears Ctrl-C: that strikes in no other thread.
        self._looks = queue.SimpleQueue[None]()
        self._carrier = threading.Thread(target=self._carry, name="tickcell-steps", daemon=True)
        self._owner = at_exit.Owner(self)

    def take(self, timeout_s: float | None = None) -> Outputs | None:
        """Returns the outputs of the step `flight.first` and of those answered with it.

        Returns:
          None if they do not come in time, or if no more come.

        Raises:
          TickcellError: the step was refused, or cannot be sent any more; all outputs
            before it were returned.
        """
        return self.run(self.taking(timeout_s))

    def run(self, operation: StreamOperation[_T]) -> _T:
        """Does what one of its operations needs, in the caller's thread or the carrier's."""
        return self._link.run(operation, self._meet)

    def may_close(self) -> bool:
        """Whether it can still be closed: not after the interpreter's end, nor in a child."""
        return self._owner.may_close()

    def close(self) -> None:
        """Ends the stream and its threads; what is in flight may or may not be applied."""
        if not self._owner.may_close():
            return
        call = self._ended()
        if call is not None:
            call.cancel()
        if self._carrier.ident is not None:
            self._carrier.join()
        self._link.close()

    def _carry(self) -> None:
        self.run(self.carrying())

    def _meet(self, need: StreamNeed) -> Any:
        """Does what is needed.

        Raises:
          TickcellError: the stream has failed.
        """
        match need:
            case Look(timeout_s):
                with contextlib.suppress(queue.Empty):
                    self._looks.get(timeout=timeout_s)
                return None
            case Read(call):
                return _read(call)
            case Work(is_over, timeout_s):
                with self._lock:
                    return self._work.wait_for(is_over, timeout_s)
            case Open(connection, session, opened):
                return connection.stream(methods.STREAM_STEPS, session, self._requests(opened))
            case _:
                return self._link.meet(need)

    def _requests(self, opened: int) -> Iterator[Any]:
        """Yields the requests of one stream, in gRPC's thread."""
        while True:
            with self._lock:
                self._chunks.wait_for(lambda: self._has_request(opened))
                chunk = self._next_chunk(opened)
            if chunk is None:
                return
            yield self._request(chunk)

    def _start_carrier(self) -> None:
        if self._carrier.ident is None:
            self._carrier.start()

    def _wake_sender(self) -> None:
        self._chunks.notify_all()

    def _wake_carrier(self) -> None:
        self._work.notify_all()

    def _wake_caller(self) -> None:
        self._looks.put(None)


def _read(call: Any) -> Any:
    """Returns the next reply of a stream; None at its end.

    Raises:
      TickcellError: the stream has failed.
    """
    try:
        return next(call, None)
    except grpc.RpcError as error:
        raise grpc_errors.from_call(error) from None
