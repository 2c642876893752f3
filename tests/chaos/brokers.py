"""Three real brokers, each with a second listener that is reached through a simulated network."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.topics import topics_from
from tests.chaos.network import Network
from tests.chaos.ports import PORTS
from tests.chaos.supervised_process import SupervisedProcess
from tobogganing.devstack.broker import Broker
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import Node
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.devstack.process import Process

NODES = 3
PATIENCE = 90.0
POLL = 1.0
SEGMENT_BYTES = 1 << 20
"""Small, so that topics are compacted during a run."""


class Brokers:
    """The brokers as supervised processes; their data is in `folder`."""

    def __init__(self, folder: Path, install: Install, tell: Callable[[str], None]) -> None:
        ports = free_ports(2 * NODES, PORTS)
        self._listening, self._near = ports[:NODES], ports[NODES:]
        self.network = Network(dict(zip(self._near, self._listening, strict=True)))
        self.cluster = Cluster(folder, install, nodes=NODES, properties=self._properties)
        self.members: list[SupervisedProcess] = []
        self._tell = tell

    @property
    def near_servers(self) -> str:
        """The brokers' addresses without the simulated network."""
        return ",".join(f"{LOOPBACK}:{port}" for port in self._near)

    @property
    def servers(self) -> str:
        return self.cluster.bootstrap_servers

    async def start(self) -> None:
        """Start the brokers, and hand each to a supervisor that keeps it running."""
        await self.cluster.start()
        self.members = [member_of(broker, self._tell) for broker in self.cluster.brokers]

    async def compact_early(self, settings: KafkaSettings) -> None:
        """Configure the existing entity-state topic so that it is compacted during a run."""
        rows = topics_from(settings).entity_state
        values = rows.settings | {"segment.bytes": str(SEGMENT_BYTES), "min.insync.replicas": "2"}
        async with admin_client(settings) as admin:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, rows.name, values)])

    async def leader(
        self, settings: KafkaSettings, topic: str, partition: int
    ) -> SupervisedProcess:
        """Return the leader of a partition, waiting for one.

        Raises:
            TimeoutError: there is no leader.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(KafkaError):
                    async with admin_client(settings) as admin:
                        (described,) = await admin.describe_topics([topic])
                    for each in described["partitions"]:
                        if each["partition"] == partition and each["leader"] > 0:
                            return self.members[int(each["leader"]) - 1]
                await asyncio.sleep(POLL)

    async def controller(self) -> SupervisedProcess:
        """Return the active controller according to the newest election, waiting for one.

        Raises:
            TimeoutError: there is no controller.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                leader = self._elected()
                if leader > 0:
                    return self.members[leader - 1]
                await asyncio.sleep(POLL)

    def _elected(self) -> int:
        states = []
        for broker in self.cluster.brokers:
            file = broker.folder / "data" / "__cluster_metadata-0" / "quorum-state"
            state = json.loads(file.read_text(encoding="utf-8"))
            states.append((int(state["leaderEpoch"]), int(state["leaderId"])))
        return max(states)[1]

    def _properties(self, node: Node) -> dict[str, object]:
        place = node.id - 1
        listening, near = self._listening[place], self._near[place]
        return {
            "listeners": f"BROKER://{node.broker},CONTROLLER://{node.controller},"
            f"NEAR://{LOOPBACK}:{listening}",
            "advertised.listeners": f"BROKER://{node.broker},NEAR://{LOOPBACK}:{near}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "NEAR:PLAINTEXT",
            "log.segment.bytes": SEGMENT_BYTES,
            "log.cleaner.backoff.ms": 5_000,
            # A restarted broker soon leads again; faults of a broker that leads nothing test
            # nothing.
            "leader.imbalance.check.interval.seconds": 5,
            "leader.imbalance.per.broker.percentage": 0,
        }


def member_of(broker: Broker, tell: Callable[[str], None]) -> SupervisedProcess:
    """Return a supervised process for a broker that is already running."""
    running = broker.process

    def launch() -> Process:
        nonlocal running
        process, running = running or broker.launch(), None
        return process

    return SupervisedProcess(f"broker-{broker.node.id}", launch, broker.ended, tell)
