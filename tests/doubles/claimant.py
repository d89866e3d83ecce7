"""A program that takes a session over again and again, and says what comes of all it does.

    python tests/doubles/claimant.py ADDRESS SESSION CLAIMS NUMBER

Each line on standard output is an event in JSON: that it has claimed the session and where
it stands then, an output that it was given for which of its frames, or what it lost. Whatever
else happens ends it with a traceback.
"""

from __future__ import annotations

import functools
import json
import random
import sys

import numpy as np

from tickcell.client import Session, errors
from tickcell.model import Bundle

# A reply that is held for longer is asked for again, so that there are copies on the way.
DEADLINE_S = 1.0


def frame_of(number: int, count: int) -> np.ndarray:
    """Returns the frame that program `number` sends as its frame `count`; no two send one."""
    recording = _recording()
    frame: np.ndarray = recording[(2 * count + number) % len(recording)]
    return frame


@functools.cache
def _recording() -> np.ndarray:
    return Bundle.load().golden.frames


class Claimant:
    """One of two programs that both believe that the session is theirs."""

    def __init__(self, address: str, session: str, number: int) -> None:
        self._address, self._session, self._number = address, session, number
        self._sent = 0
        self._chance = random.Random(number)

    def run(self, claims: int) -> None:
        """Claims the session so many times."""
        zombie = self._claim()
        while claims:
            claims -= 1
            session = self._claim()
            # The zombie does not know that it is one.
            self._step(zombie, "late step lost")
            zombie.detach()
            for _ in range(self._chance.randint(1, 6)):
                if not self._step(session, "step lost"):
                    break
            zombie = session
        zombie.detach()

    def _claim(self) -> Session:
        while True:
            try:
                session = Session.open(self._address, self._session, deadline_s=DEADLINE_S)
            except errors.SessionClaimedError:
                _say(event="claim lost")
                continue
            info = session.info
            _say(event="claimed", step=info.next_step, history=info.history.hex())
            return session

    def _step(self, session: Session, loss: str) -> bool:
        """Gives a session this program's next frame; says whether it was applied."""
        at, count = session.next_step, self._sent
        self._sent += 1
        try:
            output = session.step(frame_of(self._number, count))
        except errors.SessionClaimedError:
            _say(event=loss, step=at, frame=count)
            return False
        _say(event="output", step=at, frame=count, bits=output.tobytes().hex())
        return True


def _say(**event: object) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    _, address, session, claims, number = sys.argv
    Claimant(address, session, int(number)).run(int(claims))
