"""Free ports on loopback, and whether one is taken."""

import errno
import random
import socket

LOOPBACK = "127.0.0.1"
RANGE = range(15_000, 32_000)
"""Below the ports that kernels give to outgoing connections. From those a client that reconnects
to a dead broker may get the broker's own port, connect to itself, and keep the broker away."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now.

    Raises:
        OSError: nobody could: no such address, or not permitted.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def free_ports(count: int) -> list[int]:
    """`count` different ports that are free now. Another process may take one before we do."""
    found: set[int] = set()
    for port in random.sample(RANGE, len(RANGE)):
        if len(found) == count:
            break
        if is_free(port):
            found.add(port)
    return list(found)
