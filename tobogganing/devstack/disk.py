"""Errors of the disk, in one sentence."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from tobogganing.errors import LocalError

LEAST_BYTES = 1 << 20
"""Free space below which a disk counts as full: Kafka cannot start a segment."""


@contextlib.contextmanager
def disk_faults(folder: Path, variable: str) -> Iterator[None]:
    """Convert errors of the disk below `folder`, which `variable` sets, to LocalError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a timeout is an OSError too
            raise
        raise disk_error(error, folder, variable) from error


def disk_error(error: OSError, folder: Path, variable: str) -> LocalError:
    """The error for `folder`, or for the file that it names."""
    repair = "Free some" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Repair it"
    where = error.filename or folder
    return LocalError(f"{where} cannot be used: {error.strerror}. {repair}, or set {variable}")


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
