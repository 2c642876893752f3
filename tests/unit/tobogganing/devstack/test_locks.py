import subprocess
import sys
from pathlib import Path

import pytest

from tobogganing.devstack.locks import LockedError, acquire, exclusive

HOLD = """
import sys
from pathlib import Path
from tobogganing.devstack.locks import acquire
lock = acquire(Path(sys.argv[1]), wait=False)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_gets_the_holder_of_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError) as refused:
            acquire(path, wait=False)
        assert refused.value.holder == str(holder.pid)
        holder.kill()
    # The lock is free, however its holder ended.
    acquire(path, wait=False).close()


def test_a_lock_is_released_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path), pytest.raises(LockedError):
        acquire(path, wait=False)
    acquire(path, wait=False).close()
