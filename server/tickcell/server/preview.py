"""What a session would answer to frames, which are not applied: in several branches at once.

Each branch goes on from the session's state by frames of its own. All of them are computed
as one session would be that has the series of all branches side by side, so that nothing
but the beginning and the end is of its own kind. Pure, as `rules` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tickcell.server import episodes, errors, lives, rules
from tickcell.server.record import is_finite
from tickcell.server.rules import StepRequest

if TYPE_CHECKING:
    from tickcell.server.catalogue import ServedModel
    from tickcell.server.config import Limits
    from tickcell.server.record import Record
    from tickcell.server.store.contract import Key

# What an answer may have beside its outputs: the longest id, and some numbers.
_BESIDE_OUTPUTS_BYTES = 256


class PreviewRequest(NamedTuple):
    """A request for what M branches of T frames each would give.

    Attributes:
      key: the owner and the id of the session.
      generation: the life that is meant.
      first_step: the step at which the session must stand.
      branch_count: M.
      step_count: T.
      frames: `[M, T, B, F]` float32, little-endian.
      resets: the series that begin anew before a frame, each as (m x T + t) x B + b.
    """

    key: Key
    generation: int
    first_step: int
    branch_count: int
    step_count: int
    frames: bytes
    resets: tuple[int, ...] = ()

    @property
    def session(self) -> str:
        """The session's id."""
        return self.key.session

    @property
    def size(self) -> int:
        """The bytes that it brings."""
        return len(self.frames)

    @property
    def steps(self) -> StepRequest:
        """A request for as many steps, as it counts for its owner."""
        count = self.branch_count * self.step_count
        return StepRequest(self.key, self.generation, self.first_step, count, self.frames)


class Previewed(NamedTuple):
    """The answer to a preview.

    Attributes:
      generation: the session's.
      outputs: `[M, T, B, O]` float32.
    """

    generation: int
    outputs: bytes


def check(record: Record, request: PreviewRequest, limits: Limits) -> None:
    """Checks a request against the session's record.

    Raises:
      SessionRestarted, SessionClaimed: another generation is meant.
      FrameShape: the step count or the number of readings does not fit.
      ArgumentInvalid: there is no branch, or there are more than one answer may have; or the
        resets are none of its steps'.
      StepGap: the session does not stand at the step.
    """
    life, session = record.life, request.session
    lives.check_generation(record, session, request.generation)
    if not 1 <= request.step_count <= life.max_step_count:
        raise errors.FrameShape(
            f"{session}: got step_count {request.step_count}, expected 1 to {life.max_step_count}.",
            session=session,
            step_count=request.step_count,
            max_step_count=life.max_step_count,
        )
    _check_branches(record, request, limits)
    expected = request.branch_count * request.step_count * life.frame_size
    if len(request.frames) != expected:
        raise errors.FrameShape(
            f"{session}: got {len(request.frames) // 4} readings, expected {expected // 4}: "
            f"{request.branch_count} branches x {request.step_count} steps x {life.series_count} "
            f"series x {life.sensor_count} sensors.",
            session=session,
            reading_count=len(request.frames) // 4,
            expected_reading_count=expected // 4,
            branch_count=request.branch_count,
            step_count=request.step_count,
            series_count=life.series_count,
            sensor_count=life.sensor_count,
        )
    rows = request.branch_count * request.step_count * life.series_count
    episodes.check(life, session, request.resets, rows)
    if request.first_step != record.next_step:
        raise errors.StepGap(
            f"{session}: got step {request.first_step}, but the session is at {record.next_step}; "
            "preview from there.",
            session=session,
            first_step=request.first_step,
            next_step=record.next_step,
        )


def check_readings(record: Record, request: PreviewRequest, model: ServedModel) -> None:
    """Checks the readings of all branches.

    Raises:
      FrameNotFinite, FrameOutOfRange: a reading of one of them is no number, or one that its
        sensor cannot give.
    """
    frames = request.frames
    if is_finite(frames) and model.out_of_range(frames) is None:
        return
    sensors = model.cell.interface.sensors
    size = request.step_count * record.life.frame_size
    for branch in range(request.branch_count):
        own = request.steps._replace(
            step_count=request.step_count, frames=frames[branch * size : (branch + 1) * size]
        )
        try:
            rules.decide(record, own, lambda _, index: sensors[index].name)
            rules.check_ranges(record, own, 0, model)
        except (errors.FrameNotFinite, errors.FrameOutOfRange) as error:
            text = str(error).removeprefix(f"{request.session}: ")
            raise type(error)(
                f"{request.session}: branch {branch}, {text}", branch=branch, **error.metadata
            ) from None


def side_by_side(record: Record, request: PreviewRequest) -> tuple[Record, StepRequest]:
    """Returns a record and a request of which each series is one series of one branch.

    Args:
      record: the session's.
      request: which fits it.
    """
    branches, steps = request.branch_count, request.step_count
    frames = np.frombuffer(request.frames, "<f4").reshape(branches, steps, -1)
    series_count = record.life.series_count
    resets = []
    for index in request.resets:
        branch, rest = divmod(index, steps * series_count)
        step, series = divmod(rest, series_count)
        resets.append((step * branches + branch) * series_count + series)
    wide = record._replace(
        life=record.life.wider(branches),
        state=record.state * branches,
        origin=record.origin * branches,
    )
    return wide, request.steps._replace(
        step_count=steps,
        frames=frames.transpose(1, 0, 2).tobytes(),
        resets=tuple(sorted(resets)),
    )


def by_branch(request: PreviewRequest, outputs: bytes) -> bytes:
    """Returns `[M, T, B, O]` outputs for those that were computed side by side."""
    table = np.frombuffer(outputs, "<f4").reshape(request.step_count, request.branch_count, -1)
    return table.transpose(1, 0, 2).tobytes()


def _check_branches(record: Record, request: PreviewRequest, limits: Limits) -> None:
    life, steps = record.life, request.step_count
    most = min(
        limits.max_request_rows // (steps * life.series_count),
        (limits.max_message_bytes - _BESIDE_OUTPUTS_BYTES) // (steps * life.output_size),
    )
    if not 1 <= request.branch_count <= most:
        raise errors.ArgumentInvalid(
            f"{request.session}: branch_count: got {request.branch_count} of {steps} steps, "
            f"expected 1 to {most}; preview fewer at once.",
            session=request.session,
            field="branch_count",
            got=request.branch_count,
            step_count=steps,
            min=1,
            max=most,
        )
