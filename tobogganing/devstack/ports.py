"""Free ports on loopback."""

import errno
import random
import socket

LOOPBACK = "127.0.0.1"
RANGE = range(15_000, 32_000)
"""Below the ephemeral ports. A client that reconnects to a dead broker could get the broker's own
port for its side, connect to itself, and block the broker's restart."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server can listen on the port now.

    Raises:
        OSError: the address does not exist, or is not permitted.
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
    """`count` different ports that are free now; another process may take one meanwhile."""
    found: set[int] = set()
    for port in random.sample(RANGE, len(RANGE)):
        if len(found) == count:
            break
        if is_free(port):
            found.add(port)
    return list(found)
