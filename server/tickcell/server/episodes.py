"""Series that begin anew within a request, as where an episode of a simulator has ended.

A request names them by index, t x B + b: before its frame t, series b begins anew, from what
its session was created with. Pure, as `rules` is.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tickcell.server import errors

if TYPE_CHECKING:
    from tickcell.server.computing import Begun
    from tickcell.server.record import Life
    from tickcell.server.rules import StepRequest

_F4 = np.dtype("<f4")


def check(life: Life, session: str, resets: Sequence[int], row_count: int) -> None:
    """Checks the indices of series that begin anew.

    Args:
      life: the session's.
      session: its id.
      resets: the indices.
      row_count: steps times series of the request.

    Raises:
      ArgumentInvalid: they do not ascend, or one is none of the request's.
    """
    last = -1
    for index in resets:
        if not last < index < row_count:
            raise errors.ArgumentInvalid(
                f"{session}: resets: got {index}, expected ascending indices from {last + 1} to "
                f"{row_count - 1}, each step x {life.series_count} + series.",
                session=session,
                field="resets",
                got=index,
                min=last + 1,
                max=row_count - 1,
                series_count=life.series_count,
            )
        last = index


def by_step(request: StepRequest, stored: int, series_count: int) -> dict[int, list[int]]:
    """Returns which series begin anew, by the new step before which they do, from 0 on."""
    found: dict[int, list[int]] = {}
    for index in request.resets:
        step, series = divmod(index, series_count)
        if step >= stored:
            found.setdefault(step - stored, []).append(series)
    return found


def begun_anew(item: Begun, state: bytes, series: Sequence[int]) -> bytes:
    """Returns a state of which some series begin anew.

    Args:
      item: whose session has what they begin with.
      state: `[B, S]` float32.
      series: their indices.
    """
    count = item.record.life.series_count
    origin = item.record.origin or item.model.cell.initial_state(count).tobytes()
    rows = np.frombuffer(state, _F4).reshape(count, -1).copy()
    rows[[*series]] = np.frombuffer(origin, _F4).reshape(count, -1)[[*series]]
    return rows.tobytes()


def parts(item: Begun) -> Generator[Begun, Any, None]:
    """Cuts a request before each step at which a series begins anew.

    Yields:
      Each part as a request of its own that has no such step, and is sent the state after it.
    """
    request, found, life = item.request, item.record, item.record.life
    begins = by_step(request, item.stored, life.series_count)
    cuts = sorted({0, *begins, item.new_count})
    size = life.frame_size
    frames = request.frames[item.stored * size :]
    state = found.state
    for start, end in itertools.pairwise(cuts):
        if start in begins:
            state = begun_anew(item, state, begins[start])
        part = request._replace(
            step_count=end - start, frames=frames[start * size : end * size], resets=()
        )
        state = yield item._replace(request=part, record=found._replace(state=state), stored=0)
