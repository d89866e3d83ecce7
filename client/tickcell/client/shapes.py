"""Arrays of a session's frames and outputs, to and from the bytes of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tickcell.client import errors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tickcell.client.resources import SessionInfo


_FLOAT = np.dtype("<f4")


class Shapes:
    """The shapes of one session: `[B, F]` frames and `[B, O]` outputs.

    Where B = 1 the axis of series may be left out of a frame, and then is left out of
    the output; arrays that come without a frame of the caller's leave it out.
    """

    def __init__(self, info: SessionInfo) -> None:
        self._session = info.id
        self._series = info.series_count
        self._width = info.sensor_count
        self._outputs = info.output_count
        full = (self._series, self._width)
        self._frames: tuple[tuple[int, ...], ...] = (full, full[1:]) if full[0] == 1 else (full,)

    @property
    def output_size(self) -> int:
        """The bytes of one step's outputs."""
        return 4 * self._series * self._outputs

    def readings(self, frames: ArrayLike, *, time_axes: int) -> NDArray[np.float32] | None:
        """Returns frames as float32, in any order of memory; None if their shape does not fit.

        The readings themselves are for the server to check.
        """
        if type(frames) is np.ndarray and frames.dtype == _FLOAT and frames.ndim:
            readings = frames
        else:
            with np.errstate(over="ignore"):
                readings = np.ascontiguousarray(frames, _FLOAT)
        return readings if readings.shape[time_axes:] in self._frames else None

    def refusal(
        self, frames: ArrayLike, *, time_axes: int, sensor_names: list[str] | None
    ) -> errors.FrameShapeError:
        """Returns the error of frames whose shape does not fit."""
        got = list(np.shape(frames))
        series = [self._series] if self._series > 1 else []
        expected = [*("M", "T")[2 - time_axes :], *series, self._width]
        named = "session.model names the sensors"
        if sensor_names is not None:
            named = f"the sensors are {', '.join(sensor_names)}"
        return errors.FrameShapeError(
            f"{self._session}: got frames of shape {got}, expected "
            f"[{', '.join(map(str, expected))}]; {named}.",
            {"got": str(got), "expected": str(expected)},
        )

    def output_shape(self, readings: NDArray[np.float32]) -> tuple[int, ...]:
        """Returns the shape of the outputs of frames."""
        return (*readings.shape[:-1], self._outputs)

    def outputs_of(self, readings: NDArray[np.float32], data: bytes) -> NDArray[np.float32]:
        """Returns the outputs of frames, in the shape of these."""
        # Of a bytearray, the caller may write into them.
        return np.ndarray(self.output_shape(readings), _FLOAT, bytearray(data))

    def output(self, data: bytes) -> NDArray[np.float32]:
        """Returns one step's outputs, `[O]` where B = 1, else `[B, O]`."""
        output: NDArray[np.float32] = self.outputs(data)[0]
        return output

    def outputs(self, data: bytes) -> NDArray[np.float32]:
        """Returns the outputs of several steps, `[T, O]` where B = 1, else `[T, B, O]`."""
        shape = (self._outputs,) if self._series == 1 else (self._series, self._outputs)
        return np.frombuffer(data, _FLOAT).reshape(-1, *shape).copy()

    def frames(self, data: bytes) -> NDArray[np.float32]:
        """Returns frames, `[N, F]` where B = 1, else `[N, B, F]`."""
        shape = (-1, self._width) if self._series == 1 else (-1, self._series, self._width)
        return np.frombuffer(data, _FLOAT).reshape(shape).copy()
