"""Whether a store's file is sound: its pages, and every record in it.

Both are read as bytes and not through LMDB, which can abort the process on a damaged
file. That the free pages and those in use are disjoint matters as much as the
records do: a page that is both would be written over later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmdb import verify

from tickcell.server.store import pages, schema
from tickcell.server.store.premises import DATA

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable


class Soundness(NamedTuple):
    """What an examination found.

    Attributes:
      record_count: the records that check out.
      problems: one sentence or less for each; empty if the file is sound.
    """

    record_count: int
    problems: list[str]

    def __str__(self) -> str:
        """Says it in one line."""
        if self.problems:
            return f"{len(self.problems)} problems, the first: {self.problems[0]}"
        return f"its {self.record_count:,} records are all sound"


def examine(directory: pathlib.Path, check: Callable[[bytes], object]) -> Soundness:
    """Examines a store that no process has open.

    Args:
      directory: The store's directory.
      check: Takes a record, and raises ValueError where it is damaged.

    Raises:
      NewerSchemaError: a newer tickcell wrote it, so `check` cannot judge its records.
    """
    data = directory / DATA
    try:
        problems = verify.verify(str(data), subdir=False)
    except verify.VerifyError as error:
        problems = [str(error)]
    record_count = 0
    with data.open("rb") as file:
        for found in pages.walk(pages.Pages(file)):
            problem = _problem(found, check)
            if problem:
                problems.append(problem)
            elif isinstance(found, pages.Node) and not schema.is_own_key(found.key):
                record_count += 1
            elif isinstance(found, pages.Node) and found.key == schema.SCHEMA_KEY:
                schema.require_readable(directory, found.value)
    return Soundness(record_count, problems)


def _problem(found: pages.Node | pages.Lost, check: Callable[[bytes], object]) -> str | None:
    if isinstance(found, pages.Lost):
        return found.why
    if found.value is None:
        return f"the record {found.key!r} has lost its overflow pages"
    if schema.is_own_key(found.key):
        return None
    try:
        check(found.value)
    except ValueError as error:
        return f"the record {found.key!r} is damaged: {error}"
    return None
