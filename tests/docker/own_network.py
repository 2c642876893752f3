"""A network of its own for an engine, so that it needs no port of this machine and changes neither
its firewall nor its IP forwarding.

Connections to registries leave it through slirp4netns, as those of a rootless Docker do.
"""

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tobogganing.devstack import process
from tools import debian

DNS = "10.0.2.3"
"""The resolver of this machine, whatever its address here."""
LIBRARIES = ("libslirp0", "libseccomp2", "libcap2", "libglib2.0-0")
DEVICE = "tap0"
START_TIMEOUT = 30
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class OwnNetwork:
    """A network namespace with its own loopback interface."""

    def __init__(self, namespace: int) -> None:
        self._namespace = namespace

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread into it, with all processes and threads that it starts."""
        with _namespace_of_this_thread() as before:
            _call("setns", self._namespace, _CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", before, _CLONE_NEWNET)


@contextlib.contextmanager
def own_network() -> Iterator[OwnNetwork]:
    """Create one, with a route to the outside. It ends with the last process in it."""
    slirp = debian.program("slirp4netns", "usr/bin/slirp4netns", *LIBRARIES)
    with _namespace_of_this_thread() as outside:
        _call("unshare", _CLONE_NEWNET)
        with _namespace_of_this_thread() as inside:
            _call("setns", outside, _CLONE_NEWNET)
            path = f"/proc/{os.getpid()}/fd/{inside}"
            options = ("--configure", "--mtu=65520", "--disable-host-loopback")
            child = process.start(
                [slirp.path, *options, "--netns-type=path", path, DEVICE],
                environ=slirp.environ,
                output=subprocess.DEVNULL,
            )
            try:
                network = OwnNetwork(inside)
                _wait_for_route(network, child)
                yield network
            finally:
                child.terminate()
                child.wait()


def _wait_for_route(network: OwnNetwork, child: process.Process) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    with network.entered():
        while f"{DEVICE}\t00000000" not in Path("/proc/thread-self/net/route").read_text():
            assert child.poll() is None, "slirp4netns ended"
            assert time.monotonic() < deadline, "slirp4netns has set no route"
            time.sleep(0.05)


@contextlib.contextmanager
def _namespace_of_this_thread() -> Iterator[int]:
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)
