"""Another version of a bundle: the same model with other weights."""

from __future__ import annotations

import dataclasses

import numpy as np

from tickcell.model import Bundle


def variant(bundle: Bundle, version: str, factor: float = 0.5) -> Bundle:
    """Returns a bundle whose largest run of weights is scaled, so that its outputs differ.

    Args:
      bundle: the original.
      version: that the card of the other one states.
      factor: by which the weights are scaled.
    """
    graph = bytearray(bundle.step_graph)
    numbers = np.frombuffer(graph, "<f4", len(graph) // 4)
    with np.errstate(invalid="ignore"):
        sizes = np.abs(numbers)
    are_weights = (sizes > 1e-4) & (sizes < 10.0)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], are_weights.view(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    longest = np.argmax(ends - starts)
    numbers[starts[longest] : ends[longest]] *= np.float32(factor)
    card = dataclasses.replace(bundle.card, version=version)
    return dataclasses.replace(bundle, step_graph=bytes(graph), steps_graph=None, card=card)
