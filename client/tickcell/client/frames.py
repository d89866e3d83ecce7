"""A session's frames on their way out: checked for their shape, mended, and as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickcell.client import dropout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.resources import Model
    from tickcell.client.shapes import Shapes


class Frames:
    """Takes frames as a session's caller gives them.

    Readings are mended, or checked here, by the sensors' ranges: those of the model that
    `learn` was told.

    Attributes:
      mends: whether readings are mended here; else the server checks them.
    """

    def __init__(self, shapes: Shapes, on_dropout: dropout.Policy) -> None:
        """Begins with no good reading to hold.

        Args:
          shapes: of the session.
          on_dropout: what to do with a reading that dropped out.
        """
        self._shapes = shapes
        self.mends = dropout.check_policy(on_dropout) != "raise"
        self._on_dropout = on_dropout
        # For the text of a wrong shape; None as long as nobody has asked.
        self._sensor_names: list[str] | None = None
        self._learned: dropout.Dropouts | None = None

    @property
    def knows_ranges(self) -> bool:
        """Whether it was told the model."""
        return self._learned is not None

    def learn(self, model: Model) -> None:
        """Takes the model whose sensors the readings are of."""
        self._sensor_names = [sensor.name for sensor in model.sensors]
        self._learned = dropout.Dropouts(self._on_dropout, model.sensors, model.mask_value)

    @property
    def dropout_counts(self) -> dict[str, int]:
        """How many readings were held or clipped, by sensor."""
        return self._dropouts.counts if self.mends else {}

    @property
    def series_dropout_counts(self) -> dict[int, dict[str, int]]:
        """How many readings were held or clipped, by series and sensor."""
        counts: dict[int, dict[str, int]] = {}
        if self.mends:
            for (series, sensor), count in sorted(self._dropouts.series_counts.items()):
                counts.setdefault(series, {})[sensor] = count
        return counts

    def readings(self, frames: ArrayLike, *, time_axes: int) -> NDArray[np.float32]:
        """Returns frames as float32.

        Raises:
          FrameShapeError: the shape does not fit.
        """
        readings = self._shapes.readings(frames, time_axes=time_axes)
        if readings is None:
            # A wrong shape is found out here, and must not wait for a server that is away.
            raise self._shapes.refusal(frames, time_axes=time_axes, sensor_names=self._sensor_names)
        return readings

    def mended(self, readings: Iterable[NDArray[np.float32]], step: int) -> dropout.Mended:
        """Returns the first of some frames, mended, up to one that cannot be.

        Args:
          readings: the frames; at least one.
          step: of the first.

        Raises:
          FrameError: the first cannot be mended.
        """
        return self._dropouts.mend(readings, step)

    def note(self, mended: dropout.Mended) -> None:
        """Counts what dropped out of frames whose outputs the caller has."""
        self._dropouts.note(mended)

    def encode(self, frame: ArrayLike, step: int, *, is_checked: bool) -> bytes:
        """Returns one frame as it is sent, mended, and counts what dropped out.

        Args:
          frame: as for `Session.step`.
          step: its index, for the error's text.
          is_checked: whether its readings are checked here where they are not to be
            mended, and not by the server alone.

        Raises:
          FrameShapeError: the shape does not fit.
          FrameNotFiniteError, FrameOutOfRangeError: a reading cannot be mended.
        """
        readings = self.readings(frame, time_axes=0)
        if is_checked or self.mends:
            readings = self._dropouts.apply(readings, step)
        return readings.tobytes()

    def encode_all(self, frames: ArrayLike) -> list[bytes] | None:
        """Returns frames as they are sent; None where that must be done one by one."""
        if self.mends:
            return None
        try:
            readings = self._shapes.readings(frames, time_axes=1)
        except (TypeError, ValueError):
            # They are not all of one shape, or not all numbers.
            return None
        if readings is None:
            return None
        data = readings.tobytes()
        size = len(data) // len(readings)
        return [data[start : start + size] for start in range(0, len(data), size)]

    @property
    def _dropouts(self) -> dropout.Dropouts:
        assert self._learned is not None, "the model is asked for before readings are mended"
        return self._learned


class Encoder:
    """Takes frames out of a stream's source, as a pipeline takes them.

    What is not to be mended the server refuses, after the outputs before it.
    """

    def __init__(self, frames: Frames, next_step: Callable[[], int]) -> None:
        """Begins with the session's frames, and what says the step of the next one."""
        self._frames = frames
        self._next_step = next_step

    def one(self, frame: ArrayLike, *, ahead: int = 0) -> bytes:
        """Returns a frame as it is sent.

        Args:
          frame: as for `Session.step`.
          ahead: how many frames are taken before it and not pushed yet.

        Raises:
          FrameShapeError: the shape does not fit.
          FrameNotFiniteError, FrameOutOfRangeError: a reading cannot be mended.
        """
        return self._frames.encode(frame, self._next_step() + ahead, is_checked=False)

    def several(self, frames: ArrayLike) -> list[bytes] | None:
        """Returns frames as they are sent; None where that must be done one by one."""
        return self._frames.encode_all(frames)
