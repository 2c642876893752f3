"""Small in-memory file systems for some processes' directories, which can be filled.

Mounting needs a privilege: `python -m tests.chaos` acquires it in its own namespace (see
`confined`), so that nothing stays mounted after it, however it ends.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SIZE = 1 << 30
_CONFINED = "CHAOS_CONFINED"


class NotHereError(Exception):
    """A fault cannot be caused on this machine; the message says why."""


def confined() -> None:
    """Restart this program in a namespace in which it may mount.

    Returns if it is already in one, or if that is impossible.
    """
    unshare = shutil.which("unshare")
    if _CONFINED in os.environ or unshare is None:
        return
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    confine = [unshare, *rights, "--mount", "--propagation", "private"]
    if subprocess.run([*confine, "true"], capture_output=True, check=False).returncode == 0:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(unshare, [*confine, *command], os.environ | {_CONFINED: "1"})


class Disk:
    """A file system at `folder`. `refused` is the reason if it could not be mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.refused = ""
        if _CONFINED not in os.environ:
            self.refused = "nothing may be mounted here"
        else:
            self.refused = _mount("-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder))

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Fill the disk during the context.

        Raises:
            NotHereError: there is no such disk.
        """
        if self.refused:
            raise NotHereError(self.refused)
        self._shrink()
        try:
            self._check_full()
            yield
        finally:
            self._resize(SIZE)

    def _shrink(self) -> None:
        """Reduce its size to that of its content, which may grow concurrently."""
        while True:
            usage = os.statvfs(self.folder)
            if not self._resize((usage.f_blocks - usage.f_bfree) * usage.f_frsize):
                return

    def _check_full(self) -> None:
        """Check that no space is left.

        Raises:
            AssertionError: there is space left.
        """
        try:
            (self.folder / "some").write_bytes(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        else:
            raise AssertionError(f"there is space left in {self.folder}")
        finally:
            (self.folder / "some").unlink(missing_ok=True)

    def _resize(self, size: int) -> str:
        return _mount("-o", f"remount,size={size}", str(self.folder))


def _mount(*arguments: str) -> str:
    """Mount; return the error message, if any."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or "mount failed"
