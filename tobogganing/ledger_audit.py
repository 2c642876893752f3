"""The audit of ledgers: the submissions of the topic are counted again and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord

from contract.frame import FrameError, decode_frame
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from service.plural import counted
from tobogganing.backup.topic_snapshot import compare_with_source, read_ledgers
from tobogganing.errors import LocalError
from tobogganing.output import Progress


@dataclass
class LedgerRecount:
    """The counts of a partition from offset `first` to before `end`, the end of its ledger."""

    partition: int
    first: int
    end: int
    missing: bool = False
    """The topic ends before its ledger: it lost records."""
    histories: int = 1
    """Histories of the topic; the records of earlier ones may be gone."""
    other_history: str | None = None
    """Why the topic is not, or may not be, the one that the ledger counted."""
    records: int = 0
    submissions: int = 0
    late: int = 0
    undecodable: int = 0
    """Frames that cannot be decoded: each counts as one submission."""

    def count(self, value: bytes | None, appended: int) -> None:
        """Count a record as the processor does; `appended` in milliseconds."""
        self.records += 1
        try:
            frame = decode_frame(value)
        except FrameError:
            self.submissions += 1
            self.undecodable += 1
            return
        self.submissions += len(frame.submissions)
        if frame.is_late(appended):
            self.late += len(frame.submissions)

    @property
    def is_whole(self) -> bool:
        """Whether no record has been deleted, so that every count can be compared."""
        return self.first == 0 and self.histories == 1

    def differences(self, ledger: Mapping[str, Any]) -> list[str]:
        """The differences to the ledger, as text.

        After a deletion only a surplus can be detected.
        """
        if self.missing:
            return [f"the topic ends before offset {ledger['offset']}, which the ledger covers"]
        if self.other_history is not None:
            return [f"the topic is not the one that the ledger counted: {self.other_history}"]
        found = []
        for what, recounted, booked in (
            ("submissions", self.submissions, ledger["read"] - ledger.get("cut", 0)),
            ("late submissions", self.late, ledger["late"]),
        ):
            if recounted > booked or (self.is_whole and recounted != booked):
                found.append(f"{what}: {recounted:,} in the topic, {booked:,} in the ledger")
        if self.undecodable > ledger["dead_lettered"]:
            found.append(
                f"{counted(self.undecodable, 'frame')} cannot be decoded, but the ledger has "
                f"{counted(ledger['dead_lettered'], 'dead-lettered submission')}"
            )
        return found

    def document(self, ledger: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "partition": self.partition,
            "from": self.first,
            "records": self.records,
            "submissions": self.submissions,
            "late": self.late,
            "undecodable": self.undecodable,
            "whole": self.is_whole,
            "agrees": not self.differences(ledger),
        }


async def recount(
    settings: KafkaSettings, ledgers: Sequence[Mapping[str, Any]]
) -> dict[int, LedgerRecount]:
    """Count the existing records that the ledgers cover, in bounded memory.

    Raises:
        LocalError: the ledgers belong to another installation.
        KafkaError: Kafka does not respond, or deleted records since the start.
    """
    if any(each["partition"] >= settings.kafka_partitions for each in ledgers):
        raise LocalError(
            f"the exporter has more partitions than the {settings.kafka_partitions} of this Kafka: "
            "check --url, KAFKA_BOOTSTRAP_SERVERS and KAFKA_TOPIC_PREFIX"
        )
    partitions = [each["partition"] for each in ledgers]
    compared = await compare_with_source(settings, await read_ledgers(settings, partitions))
    topic = topics_from(settings).submissions.name
    async with TopicReader(settings, topic, partitions) as reader:
        firsts, ends = await reader.beginning_offsets(), await reader.end_offsets()
        recounts = {}
        for each in ledgers:
            partition, covered = each["partition"], each["offset"] + 1
            missing = covered > ends[partition]
            end = min(covered, ends[partition])
            recounts[partition] = LedgerRecount(
                partition,
                min(firsts[partition], end),
                end,
                missing,
                histories=each.get("histories", 1),
                other_history=getattr(compared[partition].comparison, "reason", None),
            )
        total = sum(each.end - each.first for each in recounts.values())
        with Progress("records", total) as progress:
            await _read(reader, recounts, progress)
    return recounts


async def _read(
    reader: TopicReader, recounts: dict[int, LedgerRecount], progress: Progress
) -> None:
    def take(partition: int, records: Sequence[ConsumerRecord]) -> None:
        into = recounts[partition]
        covered = [record for record in records if record.offset < into.end]
        for record in covered:
            into.count(record.value, record.timestamp)
        progress.add(len(covered))

    reader.seek({partition: each.first for partition, each in recounts.items()})
    unread = {partition for partition, each in recounts.items() if each.first < each.end}
    while unread:
        await reader.poll(take, unread)
        unread = {p for p in unread if await reader.position(p) < recounts[p].end}
