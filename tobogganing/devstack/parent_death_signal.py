"""Runs a command that ends with its parent: `leash.py PARENT_PID COMMAND…`, on Linux.

A file of its own, run by path and without the package: it must start fast. It is the process that
becomes the command, because the death signal is set by the child itself, before it is the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):
        sys.exit("the parent has ended already")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
