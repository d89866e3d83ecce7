"""Simulated drives to learn from and to judge by; no drive is in two of these sets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from tickcell import drive
from tickcell.model.recording import Recording

if TYPE_CHECKING:
    from tickcell.model.keras.datasets import Dataset

DRIVE = "drive"

# The first of each set's successive seeds.
_TRAINING_SEED = 1
_VALIDATION_SEED = 9001
_HELD_OUT_SEED = 9501
_GOLDEN_SEED = 9901

_HELD_OUT_COUNT = 8
HELD_OUT_SEEDS = range(_HELD_OUT_SEED, _HELD_OUT_SEED + _HELD_OUT_COUNT)
HELD_OUT_S = 300.0
_GOLDEN_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Drives:
    """Simulated drives to train on; plain data, so that a run can be resumed.

    Attributes:
      drive_count: how many there are to learn from.
      drive_s: how long each lasts, in seconds.
    """

    drive_count: int = 60
    drive_s: float = 300.0

    kind: ClassVar[str] = DRIVE
    data: ClassVar[tuple[str, ...]] = (DRIVE,)
    is_in_cycles: ClassVar[bool] = False

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {"data": [DRIVE], **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Drives:
        """Makes it of what `to_dict` gave."""
        return cls(fields["drive_count"], fields["drive_s"])

    def load(self) -> Dataset:
        """Records the drives."""
        # It imports TensorFlow, which those who only judge by drives have no need of.
        from tickcell.model.keras.datasets import Dataset

        return Dataset(
            _simulated(_TRAINING_SEED, self.drive_count, self.drive_s),
            _simulated(_VALIDATION_SEED, max(1, self.drive_count // 10), self.drive_s),
            drive.SENSORS,
            drive.RATE_HZ,
            "An aggressive manoeuvre is under way.",
            drive.LABEL,
        )


def held_out() -> list[Recording]:
    """Records the drives of which nothing is learnt and by which nothing is chosen."""
    return _simulated(_HELD_OUT_SEED, _HELD_OUT_COUNT, HELD_OUT_S)


def golden() -> Recording:
    """Records the drive whose frames are the shipped bundle's golden."""
    return drive.record(_GOLDEN_SEED, _GOLDEN_S)


def _simulated(first_seed: int, count: int, seconds: float) -> list[Recording]:
    return [drive.record(first_seed + number, seconds) for number in range(count)]
