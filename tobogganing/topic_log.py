"""Reads topics that are logs: audit and anomalies."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiokafka import ConsumerRecord

from contract.anomaly import decode_anomaly
from contract.audit import decode_audit
from contract.decoding import DECODE_ERRORS
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tobogganing.time_param import format_time

Document = dict[str, Any]


def audit_document(record: ConsumerRecord, target: str | None = None) -> Document | None:
    """An audit record with its time; None if it cannot be decoded, or does not concern `target`."""
    try:
        found = decode_audit(record.value or b"")
    except DECODE_ERRORS:
        return None
    if target is not None and not found.concerns(target):
        return None
    return {
        "at": format_time(record.timestamp),
        "actor": found.actor,
        "action": found.action,
        "target": found.target,
        "outcome": found.outcome.value,
        "address": found.address,
        "reason": found.reason,
        "details": found.details,
        "request": found.request,
    }


def anomaly_document(record: ConsumerRecord) -> Document | None:
    """An anomaly with its time and receipt; None if it cannot be decoded."""
    try:
        found = decode_anomaly(record.value or b"")
    except DECODE_ERRORS:
        return None
    receipt = Receipt(found.partition, found.offset, found.index, found.appended_ms)
    return {
        "at": format_time(found.appended_ms),
        "kind": found.kind,
        "id": found.id,
        "reason": found.reason.value,
        "detail": found.detail,
        "receipt": str(receipt),
    }


async def read_log(
    settings: KafkaSettings,
    topic: str,
    decode: Callable[[ConsumerRecord], Document | None],
    *,
    since_ms: int | None,
    follow: bool,
) -> AsyncIterator[Document]:
    """Yield the records of a topic, partition by partition; with `follow` also those to come, as
    they arrive.

    Raises:
        KafkaError: Kafka does not respond.
    """
    declared = {each.name: each for each in topics_from(settings).all()}[topic]
    partitions = range(declared.partitions)
    waiting: list[ConsumerRecord] = []

    def collect(_: int, records: Sequence[ConsumerRecord]) -> None:
        waiting.extend(records)

    async with TopicReader(settings, topic, partitions) as reader:
        if since_ms is None:
            reader.seek(await reader.beginning_offsets())
        else:
            reader.seek(await reader.offsets_since(since_ms))
        ends = await reader.end_offsets()
        while follow or any([await reader.position(p) < ends[p] for p in partitions]):
            await reader.poll(collect)
            for record in sorted(waiting, key=lambda each: each.timestamp):
                document = decode(record)
                if document is not None:
                    yield document
            waiting.clear()
