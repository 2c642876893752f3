"""Locks between processes: held by one of them, given back when it ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class LockedError(RuntimeError):
    """Another process holds the lock; `holder` is its process id, or empty when it did not say."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by process {holder or 'unknown'}")
        self.holder = holder


def acquire(path: Path, *, wait: bool) -> IO[str]:
    """Hold the lock `path` until the returned file is closed or the process ends.

    Raises:
        LockedError: another process holds it and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise LockedError(path, holder) from None
    except BaseException:
        file.close()
        raise
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock `path` and hold it for the block."""
    with acquire(path, wait=True):
        yield
