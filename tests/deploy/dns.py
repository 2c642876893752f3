"""A name server like Docker's: a name has one address for each running container of its service."""

import asyncio
import ipaddress
import socket
import struct
from typing import Self

from tobogganing.devstack.ports import LOOPBACK

HEADER = struct.Struct("!HHHHHH")
ADDRESS = struct.Struct("!HHHLH4s")
ANSWER, NO_SUCH_NAME = 0x8180, 0x8183
POINTER = 0xC00C
"""A pointer to the name of the query, which follows the header."""
IPV4, INTERNET = 1, 1


class NameServer(asyncio.DatagramProtocol):
    """Responds to queries for the names in `addresses`, which tests change while it runs."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(LOOPBACK, 0), family=socket.AF_INET
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._transport.close()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(answer(data, self.addresses), addr)


def answer(query: bytes, addresses: dict[str, list[str]]) -> bytes:
    identity, *_ = HEADER.unpack_from(query)
    labels, at = [], HEADER.size
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    (kind,) = struct.unpack_from("!H", query, at + 1)
    question = query[HEADER.size : at + 5]
    known = addresses.get(".".join(labels), [])
    shown = known if kind == IPV4 else []
    records = [
        ADDRESS.pack(POINTER, IPV4, INTERNET, 1, 4, ipaddress.ip_address(address).packed)
        for address in shown
    ]
    flags = ANSWER if known else NO_SUCH_NAME
    return HEADER.pack(identity, flags, 1, len(records), 0, 0) + question + b"".join(records)
