"""The configuration files of a broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tobogganing.devstack.ports import LOOPBACK

OFFSETS_PARTITIONS = 4

FLUSH_EACH_APPEND: Mapping[str, object] = {"log.flush.interval.messages": 1}
"""For a broker without replicas: it acknowledges only records that are on its disk. Otherwise a
power cut loses the records acknowledged in the seconds before."""


@dataclass(frozen=True)
class Node:
    """One Kafka node, broker and controller in one process."""

    id: int
    broker_port: int
    controller_port: int

    @property
    def broker(self) -> str:
        return f"{LOOPBACK}:{self.broker_port}"

    @property
    def controller(self) -> str:
        return f"{LOOPBACK}:{self.controller_port}"


def server_properties(
    node: Node, nodes: Sequence[Node], other: Mapping[str, object] | None = None
) -> str:
    """`server.properties` for `node` among `nodes`; `other` overrides settings.

    Paths are relative to the node's folder.
    """
    copies = min(len(nodes), 3)
    in_sync = 2 if copies == 3 else 1
    properties: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.id,
        "controller.quorum.voters": ",".join(f"{peer.id}@{peer.controller}" for peer in nodes),
        "listeners": f"BROKER://{node.broker},CONTROLLER://{node.controller}",
        "advertised.listeners": f"BROKER://{node.broker}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "data",
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": OFFSETS_PARTITIONS,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.num.partitions": OFFSETS_PARTITIONS,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        # For one machine with few clients.
        "metadata.max.idle.interval.ms": 5_000,  # every 500 ms, 1 % of a core without any load
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
        # Without a limit, compaction takes half a core for seconds.
        "log.cleaner.io.max.bytes.per.second": 16 << 20,
        **_timeouts(len(nodes)),
        **(other or {}),
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def _timeouts(nodes: int) -> Mapping[str, int]:
    """Short timeouts, so that a killed node is detected, and can return, within seconds.

    A killed broker can return only after its old session has expired.
    """
    if nodes == 1:
        return {"broker.session.timeout.ms": 2_000, "broker.heartbeat.interval.ms": 500}
    return {
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1_000,
        "controller.quorum.election.timeout.ms": 500,
    }


LOG4J_PROPERTIES = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = server.log
appender.file.filePattern = server.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c{1} %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 5MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""
