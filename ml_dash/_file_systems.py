"""Which file system holds a file, and whether it lies on another machine."""

from __future__ import annotations

import contextlib
import os
import re

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "orangefs", "panfs", "pvfs2"}
    | {"smb3", "virtiofs", "wekafs"}
)

_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space or a backslash in a mount point, as the kernel writes it


def file_system_of(path: str | os.PathLike[str]) -> str:
    """Return the type of the file system that holds a file or folder, such as ``ext4``; empty if it is not known.

    Of a path that is missing it is the one that would hold it.
    """
    mounts = _mounts()
    with contextlib.suppress(OSError):
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for mounted, _, kind in mounts:
            if mounted == number:
                return kind
    # btrfs gives each subvolume a device number of its own, which no mount has.
    real = os.path.realpath(path)
    holding = [
        (len(point), index)
        for index, (_, point, _) in enumerate(mounts)
        if point in ("/", real) or real.startswith(point + "/")
    ]
    return mounts[max(holding)[1]][2] if holding else ""  # of two mounts at one point the later one hides the other


def is_network(kind: str) -> bool:
    """Whether a type of file system is one over a network, as most are that run as a program (FUSE)."""
    return kind in NETWORK_FILE_SYSTEMS or (kind.startswith("fuse") and "overlay" not in kind)


def _mounts() -> list[tuple[str, str, str]]:
    """Return the device number, mount point and type of each mount; an empty list outside of Linux."""
    mounts = []
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.split()
                if "-" in fields[6:-1]:  # a variable number of optional fields ends in a hyphen
                    kind = fields[fields.index("-", 6) + 1]
                    point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
                    mounts.append((fields[2], point, kind))
    except OSError:
        return []
    return mounts
