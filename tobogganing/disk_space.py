"""Free space of disks."""

import os
from pathlib import Path

LEAST_BYTES = 1 << 20
"""Free space below which a disk counts as full: Kafka cannot start a segment."""


def full(folder: Path) -> str | None:
    """A description if the disk of `folder` is full, else None."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    if status.f_bavail * status.f_frsize < LEAST_BYTES:
        return f"the disk of {folder} is full: free some space"
    if status.f_files and not status.f_favail:
        return f"the disk of {folder} has no free inode: delete files"
    return None
