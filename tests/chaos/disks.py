"""Disks that can be full: small file systems in memory, below the folders of some processes.

Mounting takes the right to do so: `python -m tests.chaos` asks for it (see `confined`), in a
namespace of its own, so that nothing stays mounted behind it, however it ends.
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
    """A fault cannot be caused on this machine; the text says why."""


def confined() -> None:
    """Run this program anew where it may mount, and only itself sees what is mounted.

    Returns if that is so already, or cannot be.
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
    """A file system of its own at `folder`. `refused` says why there is none."""

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
        """Let there be no room for another byte.

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
        """Make it as small as what it holds, which may grow meanwhile."""
        while True:
            usage = os.statvfs(self.folder)
            if not self._resize((usage.f_blocks - usage.f_bfree) * usage.f_frsize):
                return

    def _check_full(self) -> None:
        """See that what needs room has none.

        Raises:
            AssertionError: there is some.
        """
        try:
            (self.folder / "some").write_bytes(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        else:
            raise AssertionError(f"there is room in {self.folder}")
        finally:
            (self.folder / "some").unlink(missing_ok=True)

    def _resize(self, size: int) -> str:
        return _mount("-o", f"remount,size={size}", str(self.folder))


def _mount(*arguments: str) -> str:
    """Mount; return what is said against it."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or "mount failed"
