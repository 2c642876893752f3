"""Names for workers that are started as copies of each other, such as by `--scale`.

Kafka's static membership wants a name that stays over restarts and that no two workers share. A
copy cannot know its number; so a worker takes the first name whose lock nobody holds, and the lock
goes with its process, however that ends: who is started in its place finds the same name free. A
frozen worker holds on to its name, so nobody else can pass for it.
"""

import fcntl
import os
from pathlib import Path

MAX_NAMES = 1000


class NoFreeNameError(OSError):
    """Every name is taken."""


def acquire_worker_name(folder: Path) -> str:
    """Take the first free name of `folder`, until this process ends.

    Raises:
        OSError: the folder cannot be used, or every name is taken.
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
