"""Names for workers that start as copies of each other, for example with `--scale`.

Static membership needs a name that is stable over restarts and unique. A copy does not know its
number, so a worker takes the first name that it can lock. The lock ends with the process, however
it ends, so its replacement finds the same name free. A frozen worker keeps its lock, so no other
worker gets its name.
"""

import fcntl
import os
from pathlib import Path

MAX_NAMES = 1000


class NoFreeNameError(OSError):
    """All names are taken."""


def acquire_worker_name(folder: Path) -> str:
    """Lock the first free name in `folder` until this process ends.

    Raises:
        OSError: the folder cannot be used, or all names are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, MAX_NAMES + 1):
        name = f"processor-{number}"
        # Never closed: the descriptor is the lock.
        descriptor = os.open(folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return name
    raise NoFreeNameError(f"all {MAX_NAMES} names in {folder} are taken")
