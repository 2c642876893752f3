"""A simulated network between some services and the brokers: a TCP proxy in this process.

It can be slow, hold all data, or be cut.
"""

import asyncio
import functools
from typing import cast

from tobogganing.devstack.ports import LOOPBACK


class Network:
    """Forwards `ports` (from: to) on loopback; an async context manager."""

    def __init__(self, ports: dict[int, int]) -> None:
        self.delay = 0.0
        """Seconds of delay of every byte, in each direction."""
        self._ports = ports
        self._open = asyncio.Event()
        self._open.set()
        self._cut = False
        self._ends: set[_End] = set()
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> "Network":
        loop = asyncio.get_running_loop()
        for near, far in self._ports.items():
            connection = functools.partial(_Near, self, far)
            self._servers.append(await loop.create_server(connection, LOOPBACK, near))
        return self

    async def __aexit__(self, *exception: object) -> None:
        for server in self._servers:
            server.close()
        self.cut()

    def hold(self) -> None:
        """Hold all data without losing any; it arrives after `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cut(self) -> None:
        """Break all connections, including new ones and data in flight, until `restore`."""
        self._cut = True
        for end in [*self._ends]:
            end.abort()

    def restore(self) -> None:
        self._cut = False

    async def pass_through(self, data: bytes) -> None:
        await self._open.wait()

    @property
    def is_cut(self) -> bool:
        return self._cut

    def join(self, end: "_End") -> None:
        self._ends.add(end)

    def leave(self, end: "_End") -> None:
        self._ends.discard(end)


class _End(asyncio.Protocol):
    """One end of a connection: forwards received data to the other end, in order and delayed."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._network.join(self)

    def data_received(self, data: bytes) -> None:
        self._arrived.put_nowait((asyncio.get_running_loop().time() + self._network.delay, data))

    def connection_lost(self, error: Exception | None) -> None:
        self._network.leave(self)
        self._arrived.put_nowait((0.0, b""))

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def carry_to(self, other: "_End") -> None:
        """Forward all data to the other end until this one has closed."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._arrived.get()
            if not data:
                break
            await self._network.pass_through(data)
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            if other.transport is None or other.transport.is_closing():
                break
            other.transport.write(data)
        if other.transport is not None:
            other.transport.close()


class _Near(_End):
    """The end of the connecting client; it opens the other end."""

    def __init__(self, network: Network, far: int) -> None:
        super().__init__(network)
        self._far = far

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._network.is_cut:
            self.abort()
            return
        self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        far = _End(self._network)
        try:
            await self._network.pass_through(b"")
            await asyncio.get_running_loop().create_connection(lambda: far, LOOPBACK, self._far)
        except OSError:
            self.abort()
            return
        await asyncio.gather(self.carry_to(far), far.carry_to(self))
