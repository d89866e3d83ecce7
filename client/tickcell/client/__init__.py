"""The client: sessions of a server as Python objects.

A robot's loop:

    from tickcell.client import Session

    with Session.create("localhost:50061") as session:
        for frame in recording:
            output = session.step(frame)
"""

from tickcell.client import errors as errors
from tickcell.client.async_gateway import AsyncGateway as AsyncGateway
from tickcell.client.async_pacing import AsyncPacedSession as AsyncPacedSession
from tickcell.client.async_session import AsyncSession as AsyncSession
from tickcell.client.credentials import Credentials as Credentials
from tickcell.client.errors import TickcellError as TickcellError
from tickcell.client.gateway import Gateway as Gateway
from tickcell.client.pacing import PacedSession as PacedSession
from tickcell.client.resources import Model as Model
from tickcell.client.resources import SessionInfo as SessionInfo
from tickcell.client.session import Session as Session

__all__ = [
    "AsyncGateway",
    "AsyncPacedSession",
    "AsyncSession",
    "Credentials",
    "Gateway",
    "Model",
    "PacedSession",
    "Session",
    "SessionInfo",
    "TickcellError",
    "errors",
]
