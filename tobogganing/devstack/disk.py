"""Errors of the disk, in one sentence."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from tobogganing.errors import LocalError


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
