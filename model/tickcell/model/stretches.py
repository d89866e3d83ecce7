"""Whether a graph of several steps may be used here, and from how many steps on."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.model.kernel import CellError, Kernel, StepsKernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tickcell.model.interface import Interface

_F4 = np.dtype("<f4")
_TRIES = 25

_log = logging.getLogger(__name__)


class Trace(NamedTuple):
    """What a kernel makes of a probe, one step after the other.

    Attributes:
      rows: `[N, F + S]`, of each step the frame and the state before it.
      next_rows: `[N, O + S]`, its output and the state after it.
    """

    rows: NDArray[np.float32]
    next_rows: NDArray[np.float32]

    @classmethod
    def of(
        cls, kernel: Kernel, interface: Interface, probe: NDArray[np.float32], count: int
    ) -> Trace:
        """Steps through so many frames, those of a probe over and over."""
        sensor_count, output_count = interface.sensor_count, interface.output_count
        rows = np.empty((count, sensor_count + interface.state_size), np.float32)
        rows[:, :sensor_count] = np.resize(probe, (count, sensor_count))
        next_rows = np.empty((count, output_count + interface.state_size), np.float32)
        state = interface.initial_state
        for row, next_row in zip(rows, next_rows, strict=True):
            row[sensor_count:] = state
            next_row[:] = np.frombuffer(kernel.step(row.tobytes()), _F4)
            state = next_row[output_count:]
        return cls(rows, next_rows)


class Stretches(NamedTuple):
    """A graph of several steps that gives the bits of one step after the other.

    Attributes:
      kernel: the graph, allocated.
      least: the fewest steps for which a call of it takes less time than one for each.
    """

    kernel: StepsKernel
    least: int

    @classmethod
    def proven(
        cls, graph: bytes, interface: Interface, one: Kernel, trace: Trace
    ) -> Stretches | None:
        """Allocates a graph of several steps, and holds it to a trace and to the clock.

        Args:
          graph: the bytes of a `.tflite` file, as `unrolling` makes it.
          interface: what its steps take and give.
          one: the kernel of one step.
          trace: what `one` makes of the probe.

        Returns:
          None where it is of no use: it is another graph, or has other bits, of both of
          which a warning tells, or it is slower here.
        """
        try:
            kernel = StepsKernel(graph, interface)
        except CellError as error:
            _log.warning("each step of a chunk is a separate call: %s", error)
            return None
        steps_s = call_s(kernel, interface, trace)
        if steps_s is None:
            _log.warning(
                "each step of a chunk is a separate call: %d in one have different bits here",
                kernel.step_count,
            )
            return None
        least = math.ceil(steps_s / step_s(one, trace))
        return cls(kernel, max(2, least)) if least <= kernel.step_count else None


def call_s(kernel: StepsKernel, interface: Interface, trace: Trace) -> float | None:
    """Returns how long a call takes, the shortest of many; None if one has other bits."""
    count, sensor_count = kernel.step_count, interface.sensor_count
    times = []
    # Each frame is at two places among those of a call, as far as there are so many.
    for first in (0, count // 2):
        for start in range(first, len(trace.rows) - count + 1, count):
            rows = trace.rows[start : start + count]
            frames, state = rows[:, :sensor_count].tobytes(), rows[0, sensor_count:].tobytes()
            begin = time.perf_counter()
            stepped = kernel.run(frames, state)
            times.append(time.perf_counter() - begin)
            if stepped != trace.next_rows[start : start + count].tobytes():
                return None
    return min(times)


def step_s(one: Kernel, trace: Trace) -> float:
    """Returns how long a call with one row takes, the shortest of several."""
    times = []
    for row in trace.rows[:_TRIES]:
        encoded = row.tobytes()
        begin = time.perf_counter()
        one.step(encoded)
        times.append(time.perf_counter() - begin)
    return min(times)
