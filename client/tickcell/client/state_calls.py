"""The unary calls that take a session's state as a value, each safe to send again.

Each is an operation, as those of `unary_calls` are.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tickcell import wire
from tickcell.client import arguments, errors, export_file, methods, resources, unary_calls
from tickcell.v1 import session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tickcell.client.needs import Operation
    from tickcell.client.resources import SessionInfo
    from tickcell.client.route import Route

# Whoever ends or begins a session beside an `open` does so once or twice, and not for ever.
_OPEN_TRIES = 5


class KeptOutputs(NamedTuple):
    """The outputs of steps that a session's window has.

    Attributes:
      first_step: the first of the steps.
      outputs: `[T, B, O]` float32, little-endian.
      history: after the last of them.
    """

    first_step: int
    outputs: bytes
    history: bytes


def open_session(route: Route, session: str, **wanted: Any) -> Operation[SessionInfo]:
    """Creates a session, or claims it where it lives and is what is wanted.

    Args:
      route: the way to the server.
      session: its id.
      **wanted: as for `unary_calls.create_session`.

    Raises:
      UsageError: a live session has this id, and is not what is wanted.
      SessionClaimedError: somebody else has claimed it meanwhile.
    """
    for last in range(1, _OPEN_TRIES + 1):
        try:
            return (yield from unary_calls.create_session(route, session, **wanted))
        except errors.SessionExistsError:
            if last == _OPEN_TRIES:
                raise
        try:
            found = yield from unary_calls.get_session(route, session)
            _check_fits(found, wanted)
            return (yield from claim_session(route, session, found.generation))
        except (errors.SessionEndedError, errors.SessionRestartedError):
            # It has ended or begun anew since it was looked at.
            continue
    raise AssertionError("not reached")


def claim_session(
    route: Route, session: str, generation: int | None, *, owner: str = ""
) -> Operation[SessionInfo]:
    """Hands a session over to this caller.

    Args:
      route: the way to the server.
      session: its id.
      generation: the one that was seen; None to claim whichever lives.
      owner: as for `get_session`.

    Raises:
      SessionClaimedError, SessionRestartedError: it lives in another generation.
      SessionEndedError: it is not alive.
    """
    request = session_service_pb2.ClaimSessionRequest(
        session=arguments.text("session", session),
        generation=generation or 0,
        force=generation is None,
        request_id=str(uuid.uuid4()),
        owner=owner,
    )
    response = yield from route.call(methods.CLAIM_SESSION, request)
    return resources.session_info(response.session)


def fork_session(
    route: Route,
    source: str,
    generation: int,
    session: str = "",
    *,
    step: int | None = None,
    idle_ttl_s: float | None = None,
    labels: Mapping[str, str] | None = None,
    owner: str = "",
) -> Operation[SessionInfo]:
    """Creates a session that goes on from another one's state.

    Args:
      route: the way to the server.
      source: the session that is forked.
      generation: of it.
      session: the id of the fork; "" for a UUID.
      step: where the source must stand; None for wherever it does.
      idle_ttl_s: as for `Session.create`.
      labels: notes on the fork.
      owner: whose the source is, as operators may say.

    Raises:
      StepStaleError, StepGapError: the source does not stand at the step.
      SessionExistsError: a live session has the fork's id.
    """
    if idle_ttl_s is not None:
        idle_ttl_s = arguments.seconds("idle_ttl_s", idle_ttl_s, above=0.0)
    request_id = str(uuid.uuid4())
    request = session_service_pb2.ForkSessionRequest(
        source=arguments.text("source", source),
        source_generation=generation,
        step=None if step is None else arguments.count("step", step, lowest=0, highest=2**62),
        session=arguments.text("session", session) or request_id,
        request_id=request_id,
        idle_ttl_duration=unary_calls.duration(idle_ttl_s),
        never_expires=idle_ttl_s == math.inf,
        labels=arguments.labels(labels),
        source_owner=owner,
    )
    response = yield from route.call(methods.FORK_SESSION, request)
    return resources.session_info(response.session)


def export_session(
    route: Route,
    session: str,
    generation: int,
    *,
    window: bool = True,
    end: bool = False,
    owner: str = "",
) -> Operation[bytes]:
    """Exports a session.

    Args:
      route: the way to the server.
      session: its id.
      generation: the one that is meant.
      window: whether the outputs of its last steps come along.
      end: whether it ends by that.
      owner: as for `get_session`.

    Returns:
      What a file of it holds, and `create_session` takes.

    Raises:
      SessionEndedError: it is not alive.
    """
    request = session_service_pb2.ExportSessionRequest(
        session=session,
        generation=generation,
        window=window,
        end=end,
        request_id=str(uuid.uuid4()) if end else "",
        owner=owner,
    )
    response = yield from route.call(methods.EXPORT_SESSION, request)
    return export_file.encode(response.export)


def get_outputs(
    route: Route,
    session: str,
    generation: int,
    *,
    first_step: int | None = None,
    step_count: int = 0,
    owner: str = "",
) -> Operation[KeptOutputs]:
    """Gets outputs that the window has.

    Args:
      route: the way to the server.
      session: its id.
      generation: the one that is meant.
      first_step: the first step; None for the oldest in the window.
      step_count: how many; 0 for all from the first on, as far as one answer may have them.
      owner: as for `get_session`.

    Raises:
      StepStaleError, StepGapError: a step has left the window, or is not applied yet.
    """
    request = session_service_pb2.GetOutputsRequest(
        session=session,
        generation=generation,
        first_step=first_step,
        step_count=arguments.count("step_count", step_count, lowest=0),
        owner=owner,
    )
    reply = yield from route.call(methods.GET_OUTPUTS, request)
    return KeptOutputs(reply.first_step, reply.outputs, reply.history)


def preview_steps(
    route: Route,
    session: str,
    generation: int,
    step: int,
    frames: np.ndarray,
    resets: np.ndarray,
) -> Operation[bytes]:
    """Asks what a session would answer; nothing is applied.

    Args:
      route: the way to the server.
      session: its id.
      generation: the one that is meant.
      step: where it must stand.
      frames: `[M, T, B, F]` float32.
      resets: `[M, T, B]`, whether a series begins anew before a frame.

    Returns:
      The outputs, `[M, T, B, O]` float32, little-endian.

    Raises:
      StepGapError: it stands at another step.
      FrameError: a frame cannot be applied.
    """
    request = wire.PreviewStepsRequest(
        session=session,
        generation=generation,
        step=step,
        branch_count=frames.shape[0],
        step_count=frames.shape[1],
        frames=frames.tobytes(),
        resets=np.flatnonzero(resets).tolist(),
    )
    reply = yield from route.call(methods.PREVIEW_STEPS, request)
    outputs: bytes = reply.outputs
    return outputs


def migrate_session(
    route: Route,
    session: str,
    generation: int,
    version: str = "",
    *,
    burnt_in: SessionInfo | None = None,
    owner: str = "",
) -> Operation[SessionInfo]:
    """Lets a session go on with another version of its model.

    Args:
      route: the way to the server.
      session: its id.
      generation: the one that ends.
      version: to go on with; "" for the newest.
      burnt_in: a session of that version whose state is taken; None to keep the own one.
      owner: as for `get_session`.

    Raises:
      MigrationRefusedError: the version has other sensors or another state.
      ModelUnknownError: it is not served.
    """
    request = session_service_pb2.MigrateSessionRequest(
        session=session,
        generation=generation,
        request_id=str(uuid.uuid4()),
        model_version=arguments.text("version", version),
        owner=owner,
    )
    if burnt_in is not None:
        request.state_session = burnt_in.id
        request.state_generation = burnt_in.generation
    response = yield from route.call(methods.MIGRATE_SESSION, request)
    return resources.session_info(response.session)


def _check_fits(found: SessionInfo, wanted: Mapping[str, Any]) -> None:
    """Raises UsageError unless a session is what is wanted, as far as that is said."""
    own = {
        "model": found.model,
        "model_version": found.model_version,
        "series_count": found.series_count,
        "window": found.window_step_count,
    }
    for name, has in own.items():
        wants = wanted.get(name)
        if wants and wants != has:
            raise errors.UsageError(
                f"{name}: got {wants!r}, but {found.id} is alive and has {has!r}; ask for "
                "that, or choose another id."
            )
