"""Which graph of several steps a bundle gets, if any: the one that is measured to be quickest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tickcell.model import probe, stretches
from tickcell.model.kernel import Kernel, StepsKernel
from tickcell.model.stretches import Trace
from tickcell.model.unrolling import Unrolling, UnrollingError

if TYPE_CHECKING:
    from tickcell.model.interface import Interface

# More steps in a call gain little on what the call costs, and lose it to the caches.
_STEP_COUNTS = (4, 8, 16, 32)
# What is not this much quicker is not worth its file.
_LEAST_GAIN = 1.25
# Of two that are about as quick, the shorter one serves shorter chunks, and longer ones are
# not tried any more.
_ABOUT = 1.05
# A call costs some 5 us: nothing, beside such a step.
_LONG_STEP_S = 200e-6
# The runtime has a copy of the weights for each step, and the file some 130 bytes for each
# operator.
_MOST_WEIGHTS = 8 * 1024 * 1024
_MOST_OPERATORS = 4096

_PROBED = 128
_ROUNDS = 5


class Chosen(NamedTuple):
    """What a bundle gets.

    Attributes:
      graph: of several steps; None for none.
      summary: what the card says of it.
    """

    graph: bytes | None
    summary: str


def choose(step_graph: bytes, interface: Interface, fingerprint: str) -> Chosen:
    """Unrolls a graph of one step in several ways, and measures them on this machine.

    Args:
      step_graph: the bytes of a `.tflite` file, as `LiteRTCell` runs it.
      interface: what it takes and gives.
      fingerprint: of the bundle, from which the frames of the probe follow.
    """
    try:
        unrolling = Unrolling(step_graph, interface)
    except UnrollingError as error:
        return _one(str(error))
    one = Kernel(step_graph, interface, unrolling.key, 1)
    trace = Trace.of(one, interface, probe.frames(fingerprint, interface), _PROBED)
    if (step_s := stretches.step_s(one, trace)) > _LONG_STEP_S:
        return _one(f"a step takes {1e6 * step_s:,.0f} us, far more than a call costs")
    best, best_s, best_count = None, math.inf, 1
    why = "the graph is too large to be repeated"
    for count in _STEP_COUNTS:
        if (
            count * unrolling.weights_size > _MOST_WEIGHTS
            or count * unrolling.operator_count > _MOST_OPERATORS
        ):
            break
        graph = unrolling.unrolled(count)
        each_s = _each_s(StepsKernel(graph, interface), interface, trace)
        if each_s is None:
            why = "several have other bits"
            break
        step_s = min(step_s, stretches.step_s(one, trace))
        if _ABOUT * each_s > best_s:
            break
        best, best_s, best_count = graph, each_s, count
    if best is None:
        return _one(why)
    gain = step_s / best_s
    if gain < _LEAST_GAIN:
        return _one("several are hardly faster")
    return Chosen(best, f"{best_count} steps of one series in a call, {gain:.1f} times as fast")


def _each_s(kernel: StepsKernel, interface: Interface, trace: Trace) -> float | None:
    """Returns how long a step takes in a call of several; None if one has other bits."""
    times = []
    for _ in range(_ROUNDS):
        call_s = stretches.call_s(kernel, interface, trace)
        if call_s is None:
            return None
        times.append(call_s / kernel.step_count)
    return min(times)


def _one(why: str) -> Chosen:
    return Chosen(None, f"one step in a call: {why}")
