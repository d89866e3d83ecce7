"""What a server allows: the models it serves and the bounds that it sets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tickcell.server.config import NANOSECONDS
from tickcell.server.quotas import Quotas

if TYPE_CHECKING:
    from tickcell.server.catalogue import Catalogue
    from tickcell.server.config import Config, Limits


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """By what requests are decided, beside the records that they find.

    Attributes:
      catalogue: the models that are served.
      limits: the bounds on what callers may ask for.
      retention_ns: how long the end of a session is remembered.
      is_strict: whether a session that was advanced under other numerics is refused.
      quotas: what owners may take.
    """

    catalogue: Catalogue
    limits: Limits
    retention_ns: int
    is_strict: bool
    quotas: Quotas = dataclasses.field(default_factory=Quotas)

    @classmethod
    def of(cls, config: Config, catalogue: Catalogue, quotas: Quotas | None = None) -> Policy:
        """Returns the policy that a configuration asks for."""
        return cls(
            catalogue,
            config.limits,
            round(config.retention_s * NANOSECONDS),
            config.numerics == "strict",
            Quotas() if quotas is None else quotas,
        )
