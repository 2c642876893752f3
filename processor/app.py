"""The processor's composition root: submissions → agent → reducer → table → entity-state."""

import asyncio
from collections.abc import Callable
from typing import Any

import faust
import structlog
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from faust.types import TP

from processor.changelog.anomaly_producer import AnomalyProducer
from processor.changelog.producer import ChangelogProducer
from processor.core.dead_letter_limit import DeadLetterLimit
from processor.membership.fencing import NameGuard, instance_id
from processor.membership.heartbeat import HeartbeatMonitor
from processor.membership.membership_monitor import MembershipMonitor
from processor.membership.stall_watchdog import StallWatchdog
from processor.metrics import ProcessorMetrics
from processor.runtime.agent import Agent
from processor.runtime.assignment import PartitionAssignment
from processor.runtime.consumer import LedgerTransport
from processor.runtime.expiry import ExpiryTask
from processor.runtime.faust_compat import consumer_loop, kafka_consumer
from processor.runtime.gap_check import Ahead
from processor.runtime.gap_skipper import GapSkipper
from processor.runtime.pauser import PartitionPauser
from processor.runtime.source_check import SourceCheck
from processor.runtime.stuck_monitor import StuckMonitor
from processor.runtime.table import StateTable
from processor.settings import ProcessorSettings
from service.kafka.aiokafka_compat import ConsumerTasks, register_error_codes
from service.kafka.clients import METADATA_MAX_AGE_MS, admin_client, ssl_context
from service.kafka.kafka_compat import patch_record_batches
from service.kafka.leaders import wait_for_leaders
from service.kafka.source_reader import SourceReader
from service.kafka.topics import ensure_topics, topics_from
from service.stacks import log_stacks
from service.tasks import abort

log = structlog.get_logger(__name__)

patch_record_batches()

# Rule 8, static membership and short timeouts: a killed worker gets its partitions back in 2-3 s;
# one that stops normally leaves the group (leave_group.py).
SESSION_TIMEOUT = 8.0
HEARTBEAT_INTERVAL = 1.0
"""Seconds; workers learn of a rebalance from a heartbeat response."""
REBALANCE_TIMEOUT = 10.0
REQUEST_TIMEOUT = 9.0
"""Seconds. Faust's default of 90 s would wait for a dead broker; Faust requires more than
the session timeout."""
COMMIT_INTERVAL = 0.5
QUEUED_POLLS = 128
"""Maximum number of events in memory; an event has up to 256 KiB (processor.runtime.poll)."""


class Processor:
    """All components of one worker."""

    def __init__(self, settings: ProcessorSettings, metrics: ProcessorMetrics) -> None:
        register_error_codes()
        self.settings = settings
        self.topics = topics = topics_from(settings)
        self.without_leader: list[int] = []
        """Partitions of the changelog without a leader, while the start waits for one."""
        self.watchdog = StallWatchdog(SESSION_TIMEOUT)
        self.heartbeat = HeartbeatMonitor(SESSION_TIMEOUT)
        self.changelog = ChangelogProducer(
            settings, topics.entity_state.name, topics.dead_letter.name
        )
        self.anomalies = AnomalyProducer(settings, topics.anomalies.name, metrics)
        self.app = faust_app(settings)
        self.table = self._table()
        self.app.transport = LedgerTransport(
            self.app.conf.broker_consumer,
            self.app,
            source=topics.submissions.name,
            next_offsets=self._next_offsets,
            on_coordinator=NameGuard(settings).watch,
        )
        self.gap_skipper = GapSkipper(
            self.table,
            submissions=topics.submissions.name,
            look_ahead=self._look_ahead,
            is_active=self._is_active,
        )
        self.pauser = PartitionPauser(
            self.app,
            self.table,
            topics.submissions.name,
            self._look_ahead,
            DeadLetterLimit(settings.dead_letters_per_minute),
        )
        self.source = SourceCheck(
            self.table,
            topics.submissions.name,
            self._announce_stopped,
            self.pauser.resume,
            metrics,
        )
        self.assignment = PartitionAssignment(
            self.app, self.table, self.heartbeat, self.source, metrics
        )
        self.stuck_monitor = StuckMonitor(
            settings,
            settings.group,
            topics.submissions.name,
            self.table.store,
            self._is_active,
            # Faust seeks, and delivers records, only after the load.
            lambda: self.assignment.is_ready and not self.app.rebalancing,
            settings.stuck_after_seconds,
            self._log_stacks,
        )
        self.membership = MembershipMonitor(
            self._consumer_tasks,
            lambda: consumer_loop(self.app),
            metrics.group_error_retries.inc,
        )
        self.agent = Agent(
            self.table,
            self.assignment,
            self.heartbeat,
            self._look_ahead,
            self.pauser,
            self.source,
            self.anomalies,
            metrics,
        )
        self.expiry = ExpiryTask(
            self.table,
            retention=settings.retention_hours * 3600,
            interval=settings.sweep_interval_seconds,
            source_ends=self._source_ends,
            changelog_ends=self._changelog_ends,
            metrics=metrics,
        )
        self.app.agent(self._topic(topics.submissions.name), name="fold")(self.agent.run)
        metrics.watch(
            self.table.store,
            self.heartbeat,
            lambda: self.assignment.is_ready,
            lambda: self.pauser.flooded,
        )

    def not_ready_reasons(self) -> list[str]:
        """Return what the worker is waiting for, as text for the readiness response."""
        reasons = [] if self.assignment.is_ready else ["its partitions"]
        reasons += [
            f"a leader of partition {partition} of {self.topics.entity_state.name}"
            for partition in self.without_leader
        ]
        if self.heartbeat.age() > SESSION_TIMEOUT:
            reasons.append("kafka")
        reasons += [
            f"partition {partition} to be compared with its source: Kafka's data is incomplete"
            for partition, state in sorted(self.table.store.partitions.items())
            if state.awaits_source
        ]
        return reasons + [
            f"an operator's decision about partition {partition}: {state.source_fault} "
            "(docs/runbook.md)"
            for partition, state in sorted(self.table.store.partitions.items())
            if state.source_fault is not None
        ]

    def _consumer_tasks(self) -> ConsumerTasks | None:
        consumer = kafka_consumer(self.app)
        return None if consumer is None else ConsumerTasks(consumer)

    def _log_stacks(self) -> None:
        thread = consumer_loop(self.app)
        log_stacks([asyncio.get_running_loop(), *([] if thread is None else [thread])])

    def _topic(self, name: str, **options: Any) -> Any:
        return self.app.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            partitions=self.settings.kafka_partitions,
            allow_empty=True,
            **options,
        )

    def _table(self) -> StateTable:
        changelog = self._topic(
            self.topics.entity_state.name, acks=False, internal=True, compacting=True
        )
        table: StateTable = self.app.Table(
            "entities",
            key_type=bytes,
            value_type=bytes,
            partitions=self.settings.kafka_partitions,
            changelog_topic=changelog,
            settings=self.settings,
        )
        table.changelog = self.changelog
        table.watchdog = self.watchdog
        return table

    def _is_active(self, partition: int) -> bool:
        return self.assignment.is_ready and partition not in self.pauser.paused

    def _next_offsets(self) -> dict[TP, int]:
        return {
            TP(self.topics.submissions.name, partition): state.ledger.next_offset
            for partition, state in self.table.store.partitions.items()
            if state.loaded
        }

    async def _source_ends(self, partitions: list[int]) -> dict[int, int]:
        ends = await self._ends(self.topics.submissions.name, partitions)
        states = self.table.store.partitions
        return {p: end + states[p].ledger.shift for p, end in ends.items() if p in states}

    async def _changelog_ends(self, partitions: list[int]) -> dict[int, int]:
        return await self._ends(self.topics.entity_state.name, partitions)

    async def _ends(self, topic: str, partitions: list[int]) -> dict[int, int]:
        if not partitions:
            return {}
        async with asyncio.timeout(REQUEST_TIMEOUT):
            ends = await self.app.consumer.highwaters(*(TP(topic, p) for p in partitions))
        return {tp.partition: end for tp, end in ends.items()}

    def _announce_stopped(self, partition: int, offset: int, reason: str) -> None:
        self.app.consumer.wanted.stop(TP(self.topics.submissions.name, partition), offset, reason)

    async def _look_ahead(self, partition: int, offset: int) -> Ahead:
        topic = self.topics.submissions.name
        async with (
            asyncio.timeout(REQUEST_TIMEOUT),
            SourceReader(self.settings, topic, [partition]) as reader,
        ):
            while True:
                before = await reader.describe()
                first, end = await reader.span(partition)
                try:
                    record = await reader.record_from(partition, max(first, offset), end)
                except OffsetOutOfRangeError:
                    continue  # retention has just deleted it
                after = await reader.describe()
                leader = after.leader(partition)
                if (after.id, leader) == (before.id, before.leader(partition)):
                    found = None if record is None else record.offset
                    return Ahead(first, found, end, after.id, leader.epoch)


class DisklessApp(faust.App):
    """A Faust application without directories, whose crash ends the process.

    Rows are in memory, and a container's file system is read-only.
    """

    def _create_directories(self) -> None:
        pass

    def _crash(self, reason: BaseException) -> None:
        """End the process. Faust would mark all parents of the crashed service and may hang."""
        if not self.should_stop:
            abort("Faust has crashed", reason=repr(reason), exc_info=reason)
        super()._crash(reason)


def faust_app(settings: ProcessorSettings) -> faust.App:
    servers = settings.kafka_bootstrap_servers.split(",")
    return DisklessApp(
        settings.group,
        broker=[f"kafka://{server.strip()}" for server in servers],
        broker_credentials=_credentials(settings),
        Table=StateTable,
        store="memory://",
        datadir="/nonexistent",
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        producer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        consumer_group_instance_id=instance_id(settings),
        broker_session_timeout=SESSION_TIMEOUT,
        broker_heartbeat_interval=HEARTBEAT_INTERVAL,
        broker_rebalance_timeout=REBALANCE_TIMEOUT,
        broker_request_timeout=REQUEST_TIMEOUT,
        broker_commit_interval=COMMIT_INTERVAL,
        producer_linger=0,
        producer_request_timeout=4,
        stream_buffer_maxsize=QUEUED_POLLS,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.kafka_partitions,
        topic_replication_factor=settings.kafka_replication,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )


def _credentials(settings: ProcessorSettings) -> Any:
    protocol = settings.kafka_security_protocol
    context = ssl_context(settings) if "SSL" in protocol else None
    if "SASL" in protocol:
        password = settings.kafka_sasl_password
        return faust.SASLCredentials(
            mechanism=settings.kafka_sasl_mechanism,
            username=settings.kafka_sasl_username,
            password=password.reveal() if password else None,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


async def prepare(settings: ProcessorSettings, on_leaderless: Callable[[list[int]], None]) -> None:
    """Wait for everything that a worker needs before it joins its group.

    These are the topics; a leader of every changelog partition, since any may be assigned; and the
    group coordinator, which a new broker lacks at first.
    """
    topics = await ensure_topics(settings, timeout=float("inf"))
    await wait_for_leaders(
        settings, topics.entity_state.name, range(settings.kafka_partitions), on_leaderless
    )
    async with admin_client(settings) as admin:
        while True:
            try:
                await NameGuard(settings).warn_of_predecessor(admin)
                return
            except KafkaError as error:
                log.info("waiting for the group coordinator", reason=repr(error))
                await asyncio.sleep(0.5)
