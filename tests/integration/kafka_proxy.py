"""A TCP proxy in front of a real broker that changes or delays the broker's responses.

It changes only responses to Faust's consumer (by its client id): the other clients of a worker
check the health of the same broker.
"""

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from aiokafka.protocol.api import Response
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import Node
from tobogganing.devstack.ports import LOOPBACK, free_ports

FETCH, LIST_OFFSETS = 1, 2
REQUESTS = {
    "JoinGroup": JoinGroupRequest,
    "SyncGroup": SyncGroupRequest,
    "Heartbeat": HeartbeatRequest,
    "FindCoordinator": FindCoordinatorRequest,
    "OffsetFetch": OffsetFetchRequest,
    "OffsetCommit": OffsetCommitRequest,
}
_NAMES = {request.API_KEY: name for name, request in REQUESTS.items()}
_HEADER = struct.Struct(">hhih")  # key, version, correlation id, length of the client id

Rewrite = Callable[[Any], None]
"""Changes a response in place."""


class KafkaProxy:
    """Forwards connections from one port of this machine to another."""

    def __init__(self, near: int, far: int) -> None:
        self.rewritten: Counter[str] = Counter()
        """Responses that were changed, by the name of the request."""
        self.clients: set[str] = set()
        """The client ids of all requests."""
        self._near, self._far = near, far
        self._faults: dict[str, tuple[Rewrite, int]] = {}
        self._held: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, LOOPBACK, self._near)
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def fail(self, request: str, code: int, times: int) -> None:
        """Respond with an error code to the next `times` requests of this name."""

        def rewrite(response: Any) -> None:
            if hasattr(response, "error_code"):
                response.error_code = code
            if hasattr(response, "topics"):  # the code is the last field of each partition
                response.topics = [
                    (topic, [(*partition[:-1], code) for partition in partitions])
                    for topic, partitions in response.topics
                ]

        self.change(request, rewrite, times)

    def change(self, request: str, rewrite: Rewrite, times: int) -> None:
        """Change the responses to the next `times` requests of this name."""
        self._faults[request] = (rewrite, times)

    @contextlib.contextmanager
    def holding(self, key: int) -> Iterator[Callable[[], None]]:
        """Hold the responses to requests of this API key, except those of Faust's client.

        Yields a function that releases them earlier.
        """
        self._held[key] = held = asyncio.Event()

        def release() -> None:
            self._held.pop(key, None)
            held.set()

        try:
            yield release
        finally:
            release()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._far)
        except OSError:
            writer.close()
            return
        sent: dict[int, tuple[int, int, bytes]] = {}
        pumps = [
            asyncio.create_task(self._requests(reader, far_writer, sent)),
            asyncio.create_task(self._responses(far_reader, writer, sent)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            far_writer.close()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sent: dict[int, tuple[int, int, bytes]],
    ) -> None:
        async for body in _frames(reader):
            key, version, correlation, length = _HEADER.unpack_from(body)
            client = body[_HEADER.size : _HEADER.size + max(0, length)]
            sent[correlation] = (key, version, client)
            self.clients.add(client.decode())
            writer.write(struct.pack(">i", len(body)) + body)

    async def _responses(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sent: dict[int, tuple[int, int, bytes]],
    ) -> None:
        async for body in _frames(reader):
            (correlation,) = struct.unpack_from(">i", body)
            key, version, client = sent.pop(correlation)
            is_of_faust = client.endswith(b"-consumer")
            if key in self._held and not is_of_faust:
                await self._held[key].wait()
            if is_of_faust:
                body = self._rewritten(key, version, body)
            writer.write(struct.pack(">i", len(body)) + body)

    def _rewritten(self, key: int, version: int, body: bytes) -> bytes:
        name = _NAMES.get(key, "")
        rewrite, left = self._faults.get(name, (None, 0))
        if rewrite is None or left <= 0:
            return body
        self._faults[name] = (rewrite, left - 1)
        self.rewritten[name] += 1
        response = _response_type(key, version).decode(body[4:])
        rewrite(response)
        return body[:4] + bytes(response.encode())


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            yield await reader.readexactly(size)


def _response_type(key: int, version: int) -> type[Any]:
    return next(  # type: ignore[no-any-return]
        found
        for found in Response.__subclasses__()
        if (key, version) == (found.API_KEY, found.API_VERSION)
    )


class ProxiedCluster:
    """A broker that advertises the port `near`, which has no listener yet."""

    def __init__(self, folder: Path, install: Install) -> None:
        self.near, self.far = free_ports(2)
        self.cluster = Cluster(folder, install, properties=self._properties)

    @property
    def servers(self) -> str:
        """The address of the proxy."""
        return f"{LOOPBACK}:{self.near}"

    def _properties(self, node: Node) -> dict[str, object]:
        return {
            "listeners": f"BROKER://{node.broker},CONTROLLER://{node.controller},"
            f"NEAR://{LOOPBACK}:{self.far}",
            "advertised.listeners": f"BROKER://{node.broker},NEAR://{self.servers}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "NEAR:PLAINTEXT",
        }
