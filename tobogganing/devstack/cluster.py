"""A cluster of local brokers: one node for the local run, three for fault tests."""

import asyncio
import base64
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.kafka.clients import group_member_count
from tobogganing.devstack.broker import Broker, BrokerExitedError
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import Node
from tobogganing.devstack.ports import free_ports, is_free
from tobogganing.errors import LocalError

ATTEMPTS = 3
"""Starts on other ports, if another process took one of the first."""
POLL = 0.05
PROBED_GROUPS = ["a", "b", "c", "d"]
"""Groups in the partitions 1, 2, 3 and 0 of the offsets topic."""

Properties = Callable[[Node], Mapping[str, object]]
"""A node's settings that differ from the default, by Kafka's names."""


class Cluster:
    """Brokers on loopback whose records stay in `folder`.

    The ports are chosen by the first `start` in the folder, and kept: a restarted broker has its
    old address, unless another program has taken its port.
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
        self._keeps_ports = True

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.node.broker for broker in self.brokers)

    async def start(self, patience: float = 60.0) -> None:
        """Start all nodes and wait until they are ready, group coordinators included.

        Raises:
            LocalError: a node ended (with its last log lines), or was not ready in time.
        """
        for attempt in range(1, ATTEMPTS + 1):
            self._keeps_ports = attempt == 1
            self._place()
            try:
                for broker in self.brokers:
                    await asyncio.to_thread(broker.prepare)
                    broker.launch()
                await self.wait_until_ready(patience)
                return
            except BrokerExitedError as error:
                await self.stop()
                if attempt == ATTEMPTS or "Address already in use" not in str(error):
                    raise
            except BaseException:  # also after Ctrl-C, no broker must be left
                await self.stop()
                raise

    async def wait_until_ready(self, patience: float = 60.0) -> None:
        """Wait until the started nodes are ready.

        Raises:
            LocalError: one of them ended, or `patience` seconds have passed.
        """
        brokers = [broker for broker in self.brokers if broker.process is not None]
        nodes = [broker.node for broker in brokers]
        deadline = time.monotonic() + patience
        while not (all([await _is_open(node) for node in nodes]) and await is_ready(nodes)):
            for broker in brokers:
                broker.check_running()
            if time.monotonic() > deadline:
                raise LocalError(
                    f"Kafka was not ready after {patience:g} s. The last lines of its log in "
                    f"{brokers[0].folder}:\n{brokers[0].last_lines()}"
                )
            await asyncio.sleep(POLL)

    async def stop(self) -> None:
        """Stop all nodes; no acknowledged record is lost if one has to be killed."""
        # Of several nodes the last ones cannot stop in order, for lack of a quorum.
        patience = 8.0 if len(self.brokers) == 1 else 2.0
        await asyncio.gather(*(broker.stop(patience) for broker in self.brokers))

    def _place(self) -> None:
        ports = self._ports()
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

    def _ports(self) -> list[int]:
        """The ports of the last start, so that clients find the cluster again; others if they are
        taken, or if the start with them has failed."""
        file, count = self.folder / "ports", 2 * self._size
        try:
            ports = list(map(int, file.read_text(encoding="ascii").split()))
        except (FileNotFoundError, ValueError):
            ports = []
        if not self._keeps_ports or len(ports) != count or not all(map(is_free, ports)):
            ports = free_ports(count)
            self.folder.mkdir(parents=True, exist_ok=True)
            file.write_text(" ".join(map(str, ports)), encoding="ascii")
        return ports

    def _cluster_id(self) -> str:
        """Created once: nodes refuse the storage of another cluster."""
        file = self.folder / "cluster-id"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            temporary = file.with_suffix(".part")
            temporary.write_text(name, encoding="ascii")
            temporary.replace(file)
        return file.read_text(encoding="ascii")


async def _is_open(node: Node) -> bool:
    try:
        _, writer = await asyncio.open_connection(*node.broker.split(":"))
    except OSError:
        return False
    writer.close()
    return True


async def is_ready(nodes: list[Node]) -> bool:
    """Whether `nodes` are in the cluster and in sync, and the group coordinators respond.

    A new broker responds to metadata requests long before it can manage groups.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=[node.broker for node in nodes],
        client_id="tobogganing-run",
        request_timeout_ms=2_000,
    )
    # Refused connections are expected here.
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        expected = {node.id for node in nodes}
        if not expected <= {broker["node_id"] for broker in cluster["brokers"]}:
            return False
        for group in PROBED_GROUPS:
            await group_member_count(admin, group)
        for topic in await admin.describe_topics():
            for partition in topic["partitions"]:
                if not expected & set(partition["replicas"]) <= set(partition["isr"]):
                    return False
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
        logger.setLevel(level)
    return True
