"""Which file systems a store may lie on."""

from __future__ import annotations

import pathlib
import re

from tickcell.server.store.errors import NetworkFilesystemError

# SQLite's processes share memory and locks. None of these gives two machines, or a
# machine and its guest, the same ones: each would take itself for the only writer.
# The last line is folders shared with a virtual machine.
# fmt: off
NETWORK_TYPES = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "fuse.ceph", "lustre", "beegfs",
    "ocfs2", "gfs2", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone",
    "9p", "virtiofs", "vboxsf", "prl_fs", "fuse.vmhgfs-fuse", "fuse.grpcfuse", "fakeowner",
})
# fmt: on


def refuse_network_filesystem(directory: pathlib.Path, mounts: str) -> None:
    """Raises NetworkFilesystemError where the mounts put the directory on a network.

    Args:
      directory: it need not exist.
      mounts: the text of /proc/self/mountinfo.
    """
    filesystem_type = type_of_filesystem(directory.resolve(), mounts)
    if filesystem_type in NETWORK_TYPES:
        raise NetworkFilesystemError(
            f"{directory}: is on a network file system ({filesystem_type}), where the locks that "
            "servers share do not work; use a local disk, or --allow-network-filesystem if "
            "only one machine ever opens it."
        )


def type_of_filesystem(path: pathlib.Path, mounts: str) -> str:
    """Returns the type of the file system that holds a path, which need not exist.

    Args:
      path: an absolute path without symbolic links.
      mounts: the text of /proc/self/mountinfo; see proc_pid_mountinfo(5).
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
