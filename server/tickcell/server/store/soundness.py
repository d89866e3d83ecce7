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
      NotAStoreError: it is an LMDB file of something else.
    """
    data = directory / DATA
    try:
        page_problems = verify.verify(str(data), subdir=False)
    except verify.VerifyError as error:
        page_problems = [str(error)]
    record_problems, record_count, stored = [], 0, None
    with data.open("rb") as file:
        for found in pages.walk(pages.Pages(file)):
            if isinstance(found, pages.Lost):
                page_problems.append(found.why)
            elif found.key == schema.SCHEMA_KEY:
                stored = found.value
            elif problem := _problem(found, check):
                record_problems.append(problem)
            else:
                record_count += 1
    is_empty = not (record_count or record_problems)
    if stored is not None or not (page_problems or is_empty):
        schema.require_readable(directory, stored)
    return Soundness(record_count, page_problems + record_problems)


def _problem(record: pages.Node, check: Callable[[bytes], object]) -> str | None:
    if record.value is None:
        return f"the record {schema.name(record.key)} has lost its overflow pages"
    try:
        check(record.value)
    except ValueError:
        return f"the record {schema.name(record.key)} does not check out"
    return None
