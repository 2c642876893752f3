"""The processor's composition root: submissions → agent → reducer → table → entity-state."""

import asyncio
from typing import Any

from faust.types import TP

from contract.evidence import PROCESSOR
from processor.changelog.anomaly_producer import AnomalyProducer
from processor.changelog.producer import ChangelogProducer
from processor.core.dead_letter_limit import DeadLetterLimit
from processor.faust_compat.consumer import LedgerTransport
from processor.faust_compat.consumer_thread import consumer_loop, kafka_consumer
from processor.membership.fencing import NameGuard
from processor.membership.heartbeat import HeartbeatMonitor
from processor.membership.membership_monitor import MembershipMonitor
from processor.membership.stall_watchdog import StallWatchdog
from processor.metrics import ProcessorMetrics
from processor.runtime.agent import Agent
from processor.runtime.assignment import PartitionAssignment
from processor.runtime.faust_app import REQUEST_TIMEOUT, SESSION_TIMEOUT, faust_app
from processor.runtime.pauser import PartitionPauser
from processor.runtime.stuck_monitor import StuckMonitor
from processor.settings import ProcessorSettings
from processor.source.gap_check import LookAhead
from processor.source.gap_skipper import GapSkipper
from processor.source.look_ahead import look_ahead_in
from processor.source.source_check import SourceCheck
from processor.table.evidence_renewal import EvidenceRenewal
from processor.table.expiry import ExpiryTask
from processor.table.state_table import StateTable
from service.evidence import EvidenceLog
from service.kafka.aiokafka_compat.consumer_tasks import ConsumerTasks
from service.kafka.aiokafka_compat.coordinator import register_error_codes
from service.kafka.aiokafka_compat.record_batches import patch_record_batches
from service.kafka.topics import topics_from
from service.stacks import log_stacks

patch_record_batches()


class Processor:
    """All components of one worker.

    `changelog`, `anomalies` and `evidence` write to Kafka, and `look_ahead` reads the submissions
    topic. Each is the real one unless it is passed in.
    """

    def __init__(
        self,
        settings: ProcessorSettings,
        metrics: ProcessorMetrics,
        *,
        changelog: ChangelogProducer | None = None,
        anomalies: AnomalyProducer | None = None,
        evidence: EvidenceLog | None = None,
        look_ahead: LookAhead | None = None,
    ) -> None:
        register_error_codes()
        self.settings = settings
        self.topics = topics = topics_from(settings)
        self.without_leader: list[int] = []
        """Partitions of the changelog without a leader, while the start waits for one."""
        self.watchdog = StallWatchdog(SESSION_TIMEOUT)
        self.heartbeat = HeartbeatMonitor(SESSION_TIMEOUT)
        self.changelog = changelog or ChangelogProducer(
            settings, topics.entity_state.name, topics.dead_letter.name
        )
        self.anomalies = anomalies or AnomalyProducer(settings, topics.anomalies.name, metrics)
        self.evidence = evidence or EvidenceLog(settings, PROCESSOR, metrics.evidence)
        look_ahead = look_ahead or look_ahead_in(settings, topics.submissions.name)
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
            look_ahead=look_ahead,
            is_active=self._is_active,
        )
        self.pauser = PartitionPauser(
            self.app,
            self.table,
            topics.submissions.name,
            look_ahead,
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
            look_ahead,
            self.pauser,
            self.source,
            self.anomalies,
            self.evidence,
            metrics,
        )
        self.expiry = ExpiryTask(
            self.table,
            retention=settings.retention_hours * 3600,
            interval=settings.sweep_interval_seconds,
            source_ends=self._source_ends,
            changelog_ends=self._changelog_ends,
            write_evidence=self.evidence.write,
            metrics=metrics,
        )
        self.renewal = EvidenceRenewal(
            settings, topics.evidence.name, self.table, self.evidence.write
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
