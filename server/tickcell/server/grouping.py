"""Which requests of a round are finished together: as many as a slice has time for."""

from __future__ import annotations

from tickcell.server.computing import Begun
from tickcell.server.pace import SLICE_S
from tickcell.server.rounds import Computed

# What a byte of a record or a request takes: to be copied, checked, encoded and stored.
_BYTE_S = 5e-9
# To put a session's row into a call and to take it out again costs about 1 us.
_SHARING_S = 20e-6


class Group:
    """Requests that are finished together, and about how long that takes.

    Steps of one model share their calls: only the rows of each session are added.

    Attributes:
      items: the requests.
      time_s: of all of them, in seconds.
    """

    def __init__(self, item: Begun | Computed) -> None:
        self.items = [item]
        # By model, the steps of its longest request, each of which is a call for all.
        self._calls: dict[str, int] = {}
        self.time_s = self._added_s(item)
        self._count(item)

    def takes(self, item: Begun | Computed) -> bool:
        """Adds a request, if a slice has time for it too; returns whether it has."""
        time_s = self.time_s + self._added_s(item)
        if time_s > SLICE_S:
            return False
        self.items.append(item)
        self.time_s = time_s
        self._count(item)
        return True

    def _added_s(self, item: Begun | Computed) -> float:
        if isinstance(item, Computed):
            return _BYTE_S * len(item.change.replacement or b"")
        pace, count = item.model.pace, item.new_count
        calls = max(0, count - self._calls.get(item.model.fingerprint, 0))
        rows = count * item.record.life.series_count
        size = len(item.request.frames) + len(item.encoded or b"")
        return calls * pace.call_s + rows * pace.row_s + _BYTE_S * size

    def _count(self, item: Begun | Computed) -> None:
        if isinstance(item, Begun):
            model = item.model.fingerprint
            self._calls[model] = max(item.new_count, self._calls.get(model, 0))


def shares_calls(item: Begun) -> bool:
    """Says whether a chunk takes less time together with others, however long they all are."""
    return item.new_count > 1 and item.model.pace.call_s > _SHARING_S
