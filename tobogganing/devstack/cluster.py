"""Local brokers as one cluster: one node for daily use, three to test faults."""

import asyncio
import base64
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from tobogganing.devstack.broker import Broker, BrokerExitedError
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import Node
from tobogganing.devstack.ports import free_ports
from tobogganing.devstack.readiness import is_open, is_ready
from tobogganing.errors import LocalError

ATTEMPTS = 3
"""Starts on other ports, when another process took one of ours first."""
POLL = 0.05

Properties = Callable[[Node], Mapping[str, object]]
"""Settings of a node that are other than usual, by Kafka's names."""


class Cluster:
    """Brokers on loopback whose records stay in `folder`, whatever ends them.

    Ports are chosen at `start` and kept until the object is gone: a broker that is killed and
    started again is found where it was.
    """

    def __init__(
        self,
        folder: Path,
        install: Install,
        *,
        nodes: int = 1,
        properties: Properties = lambda _: {},
    ) -> None:
        self.folder = folder.absolute()
        self.brokers: list[Broker] = []
        self._install = install
        self._size = nodes
        self._properties = properties

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.node.broker for broker in self.brokers)

    async def start(self, patience: float = 60.0) -> None:
        """Start all nodes and wait until they serve, group coordinators included.

        Raises:
            LocalError: a node ended (with its last log lines), or was not ready in time.
        """
        for attempt in range(1, ATTEMPTS + 1):
            self._place()
            try:
                for broker in self.brokers:
                    broker.launch()
                await self.wait_until_ready(patience)
                return
            except BrokerExitedError as error:
                await self.stop()
                if attempt == ATTEMPTS or "Address already in use" not in str(error):
                    raise
            except BaseException:
                await self.stop()
                raise

    async def wait_until_ready(self, patience: float = 60.0) -> None:
        """Wait until the nodes that should run do serve.

        Raises:
            LocalError: one of them ended, or `patience` seconds have passed.
        """
        brokers = [broker for broker in self.brokers if broker.process is not None]
        nodes = [broker.node for broker in brokers]
        deadline = time.monotonic() + patience
        while not (all([await is_open(node) for node in nodes]) and await is_ready(nodes)):
            for broker in brokers:
                broker.check_running()
            if time.monotonic() > deadline:
                raise LocalError(
                    f"Kafka was not ready after {patience:g} s. The last lines of its log in "
                    f"{brokers[0].folder}:\n{brokers[0].last_lines()}"
                )
            await asyncio.sleep(POLL)

    async def stop(self) -> None:
        """Stop all nodes. Nothing that was acknowledged is lost by those that have to be killed."""
        # Of several, the last ones cannot end in order: the others that would agree are gone.
        patience = 8.0 if len(self.brokers) == 1 else 2.0
        await asyncio.gather(*(broker.stop(patience) for broker in self.brokers))

    def _place(self) -> None:
        ports = free_ports(2 * self._size)
        nodes = [Node(n + 1, ports[2 * n], ports[2 * n + 1]) for n in range(self._size)]
        identity = self._cluster_id()
        self.brokers = [
            Broker(
                self.folder / f"node-{node.id}",
                self._install,
                node,
                nodes,
                identity,
                self._properties(node),
            )
            for node in nodes
        ]

    def _cluster_id(self) -> str:
        """Made once: nodes refuse storage of another cluster."""
        file = self.folder / "cluster-id"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            temporary = file.with_suffix(".part")
            temporary.write_text(name, encoding="ascii")
            temporary.replace(file)
        return file.read_text(encoding="ascii")
