"""The rows that a fleet has left in Kafka, as processors write them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from bench.fleet import BATCH_BYTES
from contract.frame import partition_of
from contract.row import (
    ROW_VERSION,
    EntityRow,
    LedgerRow,
    encode_ledger_row,
    encode_row,
    ledger_key,
)
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from

NOW_MS = 1_764_120_000_123


@dataclass(frozen=True)
class RowFleet:
    """Clients and the rows that they had, in an order that has nothing to do with their ids."""

    clients: int
    rows: int

    def id(self, client: int) -> str:
        return f"client-{client:016x}"

    def key(self, client: int) -> bytes:
        return f"client:{self.id(client)}".encode()

    def row(self, client: int, position: int) -> EntityRow:
        metrics: dict[str, int | float] = {
            "bytes_sent": 1_000_000_007 * (client % 97 + 1) + position,
            "bytes_received": 3_000_000_019 * (client % 89 + 1) + position,
            "packets_sent": 1_000_003 * (client % 83 + 1) + position,
            "packets_received": 3_000_017 * (client % 79 + 1) + position,
            "connection_uptime": (client * 7919 % 8_640_000) / 100,
        }
        labels = {
            "name": f"Laptop of employee {client}",
            "type": ("native", "docker", "mobile")[client % 3],
            "headless": "false",
        }
        at = NOW_MS + position
        return EntityRow(
            ROW_VERSION, position, position % 500, client, at, at / 1000, labels, metrics
        )

    def history(self) -> Iterator[tuple[int, int]]:
        """Client and position of each row, oldest first."""
        order = list(range(self.clients))
        random.Random(5).shuffle(order)
        for position in range(self.rows):
            yield order[position % self.clients], position

    def newest(self) -> dict[int, int]:
        """Position of each client's newest row."""
        return dict(self.history())


async def write_rows(settings: KafkaSettings, fleet: RowFleet) -> None:
    """Write the rows as processors would have, each partition's ledger last."""
    topic = topics_from(settings).entity_state.name
    partitions = settings.kafka_partitions
    options = client_options(settings) | {"request_timeout_ms": 30_000}
    producer = AIOKafkaProducer(**options, max_batch_size=BATCH_BYTES, enable_idempotence=True)
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(partitions)]

        async def write(partition: int, key: bytes, value: bytes) -> None:
            if batches[partition].append(key=key, value=value, timestamp=None) is None:
                await (await producer.send_batch(batches[partition], topic, partition=partition))
                batches[partition] = producer.create_batch()
                batches[partition].append(key=key, value=value, timestamp=None)

        for client, position in fleet.history():
            key = fleet.key(client)
            await write(partition_of(key, partitions), key, encode_row(fleet.row(client, position)))
        for partition in range(partitions):
            ledger = LedgerRow(ROW_VERSION, fleet.rows, read=fleet.rows, applied=fleet.rows)
            await write(partition, ledger_key(partition), encode_ledger_row(ledger))
            await (await producer.send_batch(batches[partition], topic, partition=partition))
    finally:
        await producer.stop()
