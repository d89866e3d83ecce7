"""A session that nobody will continue, such as that of a check or of a simulated drive."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tickcell.client.session import Session


@contextlib.contextmanager
def deleted(session: Session) -> Iterator[Session]:
    """Deletes a session at the end, and at Ctrl-C too, where a `with` block keeps it."""
    with session:
        try:
            yield session
        except KeyboardInterrupt:
            session.close()
            raise
