"""What must hold of a directory before a store may lie in it."""

from __future__ import annotations

import os
import pathlib
import re

from tickcell.server.store import entries
from tickcell.server.store.errors import (
    NetworkFilesystemError,
    NotAStoreError,
    StoreNoSpaceError,
    StorePermissionError,
    means_no_room,
)

DATA = "data.mdb"
LOCK = "lock.mdb"

# LMDB's lock lives in memory that all its processes map. None of these gives two
# machines, or a machine and its guest, the same memory: each would take itself for
# the only writer. The last line is folders shared with a virtual machine.
# fmt: off
NETWORK_TYPES = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "fuse.ceph", "lustre", "beegfs",
    "ocfs2", "gfs2", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone",
    "9p", "virtiofs", "vboxsf", "prl_fs", "fuse.vmhgfs-fuse", "fuse.grpcfuse", "fakeowner",
})
# fmt: on


def prepare(directory: pathlib.Path, *, allow_network_filesystem: bool) -> None:
    """Creates the directory where it is missing, and sees that a store may lie in it.

    Raises:
      StoreStartError: it may not; the class says why.
    """
    if not allow_network_filesystem:
        mounts = pathlib.Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        refuse_network_filesystem(directory, mounts)
    try:
        # Only this user's: the records hold what a person's sensors saw.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except PermissionError as error:
        raise StorePermissionError(
            f"{directory}: cannot be created ({error.strerror}); name another directory with "
            "--store."
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise NotAStoreError(f"{directory}: is not a directory.") from error
    except OSError as error:
        if means_no_room(error):
            raise StoreNoSpaceError(f"{directory}: cannot be created: the disk is full.") from error
        raise
    require(directory, may_be_new=True)


def require(directory: pathlib.Path, *, may_be_new: bool = False) -> None:
    """Sees that a store lies in the directory, or could.

    Raises:
      NotAStoreError: something else lies there, or nothing where there should be a store.
      StorePermissionError: this user may not read and write there.
    """
    if not directory.is_dir():
        raise NotAStoreError(f"{directory}: is not a store's directory.")
    paths = [directory, *(directory / name for name in (DATA, LOCK))]
    for path in paths:
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise StorePermissionError(
                f"{path}: may not be read and written by user {os.geteuid()}; change its owner or "
                "name another directory with --store."
            )
    if has_content(directory) or (may_be_new and (directory / DATA).exists()):
        return
    # What a start that was cut short can have left, and what a new volume holds.
    harmless = {entries.GUARD, entries.ENTRIES, DATA, LOCK, "lost+found"}
    others = {path.name for path in directory.iterdir()} - harmless
    if others or not may_be_new:
        found = f"{sorted(others)[0]!r} but no" if others else "no"
        raise NotAStoreError(f"{directory}: is not a store's directory: it holds {found} {DATA}.")


def has_content(directory: pathlib.Path) -> bool:
    """Says whether the data file holds anything; a start that was cut short leaves it empty."""
    data = directory / DATA
    return data.exists() and data.stat().st_size > 0


def refuse_network_filesystem(directory: pathlib.Path, mounts: str) -> None:
    """Raises NetworkFilesystemError where the mounts put the directory on a network.

    Args:
      directory: It need not exist.
      mounts: The text of /proc/self/mountinfo.
    """
    filesystem_type = type_of_filesystem(directory.resolve(), mounts)
    if filesystem_type in NETWORK_TYPES:
        raise NetworkFilesystemError(
            f"{directory}: lies on a network file system ({filesystem_type}), where the lock that "
            "servers share does not work; use a local disk, or --allow-network-filesystem if one "
            "machine alone ever opens it."
        )


def type_of_filesystem(path: pathlib.Path, mounts: str) -> str:
    """Returns the type of the file system that holds a path, which need not exist.

    Args:
      path: An absolute path without symbolic links.
      mounts: The text of /proc/self/mountinfo; see proc_pid_mountinfo(5).
    """
    deepest, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        mount_point = pathlib.Path(_unescape(fields[4]))
        depth = len(mount_point.parts)
        # Of several mounts on one point, the last one hides the others.
        if depth >= deepest and path.is_relative_to(mount_point):
            deepest, found = depth, fields[fields.index("-") + 1]
    return found


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
