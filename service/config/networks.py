"""Lists of addresses and networks in settings."""

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

    def __iter__(self) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return iter(self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __repr__(self) -> str:
        return f"Networks('{', '.join(map(str, self._networks))}')"
