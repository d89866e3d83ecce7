"""Layers that look up whole numbers: what they look up must be readings."""

from __future__ import annotations

from tickcell.model.keras.rules.per_frame import PerFrame
from tickcell.model.keras.rules.rule import UnstreamableError, refusal


class Lookup(PerFrame):
    """`Embedding`: a row of weights for each number of a vocabulary."""

    @property
    def vocabulary_size(self) -> int:
        """It knows the whole numbers below this one, from 0 on."""
        return int(self.call.operation.input_dim)

    def beyond(self, mask_value: float) -> UnstreamableError:
        """Returns the refusal to look up what a masked frame has."""
        return refusal(
            self.call,
            f"a masked frame has {mask_value:g}, which it does not know",
            "mask by a number that it knows, or leave Masking out",
        )

    def computed(self) -> UnstreamableError:
        """Returns the refusal to look up what is computed: nothing could be said of its limits."""
        return refusal(
            self.call,
            "it looks up whole numbers that are computed, and not readings",
            "give it an input, or some of its columns",
        )
