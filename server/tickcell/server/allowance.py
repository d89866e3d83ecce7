"""What one message of several requests may hold: so many rows, and a response so long.

One request alone may be as long as its session takes, in a message as by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tickcell.server import errors

if TYPE_CHECKING:
    from tickcell.server.config import Limits
    from tickcell.server.record import Life
    from tickcell.server.rules import StepRequest
    from tickcell.server.store.contract import Key

# Of a response, what is beside its outputs: names and numbers, or why it was refused.
_BESIDE_OUTPUTS_BYTES = 1024


def check_count(count: int, limits: Limits) -> None:
    """Checks the number of requests, each of which counts as a row at least.

    Raises:
      ArgumentInvalid: there is none, or there are more than one message may hold.
    """
    if count == 0:
        raise errors.ArgumentInvalid(
            "requests: got none, expected 1 or more; nothing was applied.",
            field="requests",
            got=0,
            min=1,
        )
    if count > 1:
        _check(count, count * _BESIDE_OUTPUTS_BYTES, limits)


def check(requests: Sequence[StepRequest], lives: Mapping[Key, Life], limits: Limits) -> None:
    """Checks requests that came in one message.

    Args:
      requests: of different sessions.
      lives: those that they mean, as far as they are there.
      limits: the server's.

    Raises:
      ArgumentInvalid: together they have more rows than a message may hold, or their
        responses would be longer than one may be.
    """
    if len(requests) <= 1:
        return
    rows = outputs_bytes = 0
    for request in requests:
        life = lives.get(request.key)
        steps = request.step_count
        # What the rules will refuse is answered in its place, and costs no more than a row.
        if life is None or not (
            0 < steps <= life.max_step_count and len(request.frames) == steps * life.frame_size
        ):
            rows += 1
        else:
            rows += steps * life.series_count
            outputs_bytes += steps * life.output_size
    _check(rows, outputs_bytes + len(requests) * _BESIDE_OUTPUTS_BYTES, limits)


def _check(rows: int, response_bytes: int, limits: Limits) -> None:
    if rows > limits.max_request_rows:
        raise errors.ArgumentInvalid(
            f"requests: got {rows} rows (steps times series), expected at most "
            f"{limits.max_request_rows} in one message, the server's --max-request-rows; nothing "
            "was applied. Send them in several messages.",
            field="requests",
            got=rows,
            max=limits.max_request_rows,
            max_request_rows=limits.max_request_rows,
        )
    if response_bytes > limits.max_message_bytes:
        raise errors.ArgumentInvalid(
            f"requests: got so many that their responses may take {response_bytes} bytes, expected "
            f"at most {limits.max_message_bytes}, the server's --max-message-bytes; nothing was "
            "applied. Send them in several messages.",
            field="requests",
            got=response_bytes,
            max=limits.max_message_bytes,
            max_message_bytes=limits.max_message_bytes,
        )
