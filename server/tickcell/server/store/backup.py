"""Copies a store, also beside live servers."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import lmdb

from tickcell.server.store import entries, premises, soundness
from tickcell.server.store.errors import (
    StoreDamagedError,
    StoreError,
    StoreNoSpaceError,
    means_no_room,
)
from tickcell.server.store.opening import Opening

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable


def backup(
    directory: pathlib.Path,
    destination: pathlib.Path,
    *,
    map_size: int,
    check: Callable[[bytes], Any],
    boot_id: str,
) -> int:
    """Copies a store as it is at one moment, without its free pages.

    The copy is a store itself: it is restored by naming it with --store. It is
    examined before it gets its name.

    Args:
      directory: The store's directory.
      destination: The copy's directory, which must not exist or be empty.
      map_size: As for `LmdbStore.open`.
      check: As for `LmdbStore.open`.
      boot_id: Identifies the boot of the machine.

    Returns:
      The number of records in the copy.

    Raises:
      StoreError: the store cannot be opened, or the copy cannot be made.
    """
    premises.require(directory)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise StoreError(f"{destination}: exists already; name a directory that does not.")
    opened = Opening(
        directory=directory,
        role="backup",
        map_size=map_size,
        check=check,
        boot_id=boot_id,
    ).open()
    partial = destination.with_name(f".{destination.name}.partial")
    try:
        # What a backup that was killed left.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        opened.environment.copy(str(partial), compact=True)
        record_count = _examine(partial, check)
        with (partial / premises.DATA).open("rb") as file:
            os.fsync(file.fileno())
        entries.sync_directory(partial)
        partial.rename(destination)
        entries.sync_directory(destination.parent)
    except (lmdb.Error, OSError) as error:
        raise _typed(destination, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        opened.close()
    return record_count


def _examine(partial: pathlib.Path, check: Callable[[bytes], Any]) -> int:
    examined = soundness.examine(partial, check)
    if examined.problems:
        raise StoreDamagedError(
            f"the store is damaged, so no backup was made ({examined.problems[0]}); stop its "
            "servers and run 'tickcell store recover'."
        )
    return examined.record_count


def _typed(destination: pathlib.Path, error: lmdb.Error | OSError) -> StoreError:
    if means_no_room(error):
        return StoreNoSpaceError(f"{destination}: the disk has no room for the backup.")
    return StoreError(f"{destination}: the backup cannot be written: {error}.")
