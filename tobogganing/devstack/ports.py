"""Free ports on loopback."""

import errno
import ipaddress
import random
import socket

LOOPBACK = "127.0.0.1"
RANGE = range(15_000, 32_000)
"""Below the ephemeral ports. A client that reconnects to a dead broker could get the broker's own
port for its side, connect to itself, and block the broker's restart."""


def is_loopback(host: str) -> bool:
    """Whether only this machine has access to an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_address(everywhere: str) -> str | None:
    """This machine's address in its network, of the family of `0.0.0.0` or `::`; None if unknown.

    It is the sender's address of a packet to another network; none is sent.
    """
    family, other = (
        (socket.AF_INET6, "2001:db8::1") if ":" in everywhere else (socket.AF_INET, "192.0.2.1")
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((other, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server can listen on the port now.

    Raises:
        OSError: the address does not exist, or is not permitted.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` includes the addresses of IPv4
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


_chosen: set[int] = set()
"""Ports that this process has chosen, and that a process it starts may not listen on yet."""


def free_ports(count: int, within: range = RANGE) -> list[int]:
    """`count` different ports that are free now; another process may take one."""
    if len(_chosen) > len(within) / 2:
        _chosen.clear()
    found: list[int] = []
    untried = [port for port in within if port not in _chosen]
    for port in random.sample(untried, len(untried)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    _chosen.update(found)
    return found
