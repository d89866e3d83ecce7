"""An encoder of frames that are bytes already, or as good as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from tickcell.client.frames import Encoder


class BytesEncoder:
    """Encodes a frame by `bytes`, and several one by one."""

    @property
    def as_encoder(self) -> Encoder:
        return cast("Encoder", self)

    def one(self, frame: Any, *, ahead: int = 0) -> bytes:
        return bytes(frame)

    def several(self, frames: Any) -> list[bytes] | None:
        return None
