"""What a store holds and who has it open, without changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import lmdb

from tickcell.server.store import entries, premises, schema, soundness
from tickcell.server.store.opening import Opening
from tickcell.server.store.room import used_pages

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from tickcell.server.store.entries import Found


class Inspection(NamedTuple):
    """What an inspection found.

    Attributes:
      schema: the version of what lies in the store; None where damage hides it.
      record_count: the records, or of a damaged store those that check out.
      file_bytes: the size of its file, with the pages that are free or kept in reserve.
      used_bytes: of these in use; None for a damaged store.
      found: the entries of the processes that have it open, or were killed.
      problems: what is damaged; None where live servers make the question moot.
    """

    schema: int | None
    record_count: int
    file_bytes: int
    used_bytes: int | None
    found: list[Found]
    problems: list[str] | None


def inspect(
    directory: pathlib.Path, *, map_size: int, check: Callable[[bytes], Any], boot_id: str
) -> Inspection:
    """Inspects a store; if no server is live, examines all of it.

    Raises:
      StoreStartError: it is not a store, or cannot be opened.
    """
    premises.require(directory)
    with entries.guard(directory):
        found = entries.find(directory, boot_id)
        if not any(entry.state == "live" for entry in found):
            return _inspect_alone(directory, found, check)
    opened = Opening(
        directory=directory,
        role="inspect",
        map_size=map_size,
        check=check,
        boot_id=boot_id,
    ).open()
    try:
        return _read(directory, opened.environment, found, None)
    finally:
        opened.close()


def _inspect_alone(
    directory: pathlib.Path, found: list[Found], check: Callable[[bytes], Any]
) -> Inspection:
    examined = soundness.examine(directory, check)
    if examined.problems:
        size = (directory / premises.DATA).stat().st_size
        return Inspection(None, examined.record_count, size, None, found, examined.problems)
    # It is sound and the guard is ours: nobody writes, so no lock is needed.
    with lmdb.open(str(directory), readonly=True, lock=False) as environment:
        return _read(directory, environment, found, [])


def _read(
    directory: pathlib.Path,
    environment: lmdb.Environment,
    found: list[Found],
    problems: list[str] | None,
) -> Inspection:
    with environment.begin() as transaction:
        stored = transaction.get(schema.SCHEMA_KEY)
        tree = transaction.stat()
    return Inspection(
        schema.require_readable(directory, stored),
        tree["entries"] - 1,
        (directory / premises.DATA).stat().st_size,
        used_pages(tree) * tree["psize"],
        found,
        problems,
    )
