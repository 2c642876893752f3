"""Lists of addresses and networks in settings."""

import functools
import ipaddress
from collections.abc import Iterator


class Networks:
    """Addresses and networks, parsed from text such as `10.0.0.7, 192.168.0.0/16, fd00::/8`.

    Raises:
        ValueError: a part is neither an address nor a network.
    """

    def __init__(self, text: str = "") -> None:
        parts = [part.strip() for part in text.split(",")]
        self._networks = [ipaddress.ip_network(part) for part in parts if part]
        self._contains = functools.lru_cache(4096)(self._compute_contains)

    def __iter__(self) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return iter(self._networks)

    def __contains__(self, host: str) -> bool:
        """Return whether an address is one of these, or in one of these networks."""
        return self._contains(host)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __str__(self) -> str:
        return ", ".join(map(str, self._networks))

    def __repr__(self) -> str:
        return f"Networks('{self}')"

    def _compute_contains(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
