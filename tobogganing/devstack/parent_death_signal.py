"""Runs a command that is killed when its parent ends, on Linux.

    parent_death_signal.py PARENT_PID COMMAND…

It is run by path, without the package, to start fast. The child itself must request the signal, so
this process does, and then becomes the command.
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
