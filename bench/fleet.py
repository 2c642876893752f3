"""The fleet of a benchmark: ids, credentials, values, and its records in Kafka.

Submission number n belongs to entity n mod (size of the fleet), and every value is computed from
n: a value in a topic or a scrape identifies its submission.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from contract.frame import Submission, entity_key, partition_of
from contract.kinds import CLIENT, HEADEND
from contract.registry import RegistryRecord, encode_record
from contract.row import (
    ROW_VERSION,
    EntityRow,
    LedgerRow,
    encode_ledger_row,
    encode_row,
    ledger_key,
)
from gateway.api.registrar import new_record
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from

BATCH_BYTES = 900_000
UNIT = 10**12
UPTIME = 3600.5
CHECK_IN = 1_700_000_000
FACTORS = (1, 479_001_599, 982_451_653, 179_424_673)
"""One for each integer metric; large ones, so that values differ and a scrape compresses as a real
one does."""
_CLIENT_VALUES = (
    b'{"bytes_sent":%d,"bytes_received":%d,"packets_sent":%d,'
    b'"packets_received":%d,"connection_uptime":3600.5}'
)
_HEADEND_VALUES = (
    b'{"active_connections":1%012d,"bandwidth_in":1000000000,"bandwidth_out":2000000000,'
    b'"cpu_usage":45.5,"memory_usage":2%012d}'
)
_CLIENT_ITEM = b'{"kind":"client","id":"client-%07d","headless":false,"metrics":%b}'


def integer_values(client: int, reports: int) -> tuple[int, int, int, int]:
    """The four integer metrics of a client after a number of reports, each with 13 digits.

    They grow as those of a real client do: a counter that falls or jumps is an anomaly, whose
    record costs more than the row.
    """
    a, b, c, d = FACTORS
    return (
        UNIT + client * a % UNIT + reports * 812_345,
        2 * UNIT + client * b % UNIT + reports * 3_912_345,
        3 * UNIT + client * c % UNIT + reports * 2_345,
        4 * UNIT + client * d % UNIT + reports * 3_456,
    )


@dataclass(frozen=True)
class Clients:
    """Clients, which submit with API keys."""

    size: int

    def id(self, number: int) -> str:
        return f"client-{number % self.size:07}"

    def labels(self, number: int) -> dict[str, str]:
        return {"name": f"{self.id(number)}.example", "type": "native", "headless": "false"}

    def path(self, number: int) -> str:
        return f"/api/v1/clients/{self.id(number)}/metrics"

    def credential(self, number: int) -> str:
        return f"key-of-{self.id(number)}".ljust(43, "-")

    def body(self, number: int) -> bytes:
        return b'{"headless":false,"metrics":%b}' % (_CLIENT_VALUES % self._values(number))

    def item(self, number: int) -> bytes:
        """The submission as an item of a relay's batch."""
        return _CLIENT_ITEM % (number % self.size, _CLIENT_VALUES % self._values(number))

    def metrics(self, number: int) -> dict[str, int | float]:
        a, b, c, d = self._values(number)
        return {
            "bytes_sent": a,
            "bytes_received": b,
            "packets_sent": c,
            "packets_received": d,
            "connection_uptime": UPTIME,
        }

    def _values(self, number: int) -> tuple[int, int, int, int]:
        return integer_values(number % self.size, number // self.size)

    def key(self, number: int) -> bytes:
        return entity_key(CLIENT.name, self.id(number))

    def submission(self, number: int) -> Submission:
        """The submission as the gateway writes it into a frame."""
        labels = self.labels(number)
        default_labels = {"headless": labels.pop("headless")}
        metrics = self.metrics(number)
        return Submission(CLIENT.name, self.id(number), 1, labels, default_labels, metrics)

    def row(self, number: int) -> bytes:
        """The encoded row that this submission leaves in entity-state."""
        return encode_row(
            EntityRow(
                version=ROW_VERSION,
                offset=number,
                index=0,
                incarnation=0,
                last_appended_ms=CHECK_IN * 1000,
                last_check_in=float(CHECK_IN),
                labels=self.labels(number),
                metrics=self.metrics(number),
            )
        )

    def shuffled(self, start: int) -> list[int]:
        """The numbers of one submission of each client from `start` on, in random order."""
        return random.Random(start).sample(range(start, start + self.size), self.size)

    def records(self, first: int = 0) -> Iterator[RegistryRecord]:
        """Registrations, from the client `first` on."""
        for number in range(first, self.size):
            name = self.labels(number)["name"]
            key = self.credential(number)
            yield new_record(CLIENT.name, self.id(number), name, {"type": "native"}, key)


@dataclass(frozen=True)
class Headends:
    """Headends, which submit with tokens issued for their API keys."""

    size: int
    tokens: tuple[str, ...] = ()

    def id(self, number: int) -> str:
        return f"headend-{number % self.size:07}"

    def path(self, number: int) -> str:
        return f"/api/v1/headends/{self.id(number)}/metrics"

    def api_key(self, number: int) -> str:
        return f"key-of-{self.id(number)}".ljust(43, "-")

    def credential(self, number: int) -> str:
        return self.tokens[number % self.size]

    def body(self, number: int) -> bytes:
        return b'{"headend_name":"%b","metrics":%b}' % (
            self.id(number).encode(),
            _HEADEND_VALUES % (number, number),
        )

    def metrics(self, number: int) -> dict[str, int | float]:
        return {
            "active_connections": UNIT + number,
            "bandwidth_in": 1_000_000_000,
            "bandwidth_out": 2_000_000_000,
            "cpu_usage": 45.5,
            "memory_usage": 2 * UNIT + number,
        }

    def records(self) -> Iterator[RegistryRecord]:
        for number in range(self.size):
            attributes = {"cluster_id": "bench", "region": "eu", "datacenter": "fra1"}
            id = self.id(number)
            yield new_record(HEADEND.name, id, id, attributes, self.api_key(number))


Fleet = Clients | Headends


async def register(settings: KafkaSettings, records: Iterable[RegistryRecord]) -> None:
    """Write registrations as a gateway would; over HTTP a large fleet takes minutes."""
    topic = topics_from(settings).registry.name
    await _append(settings, topic, ((0, each.key, encode_record(each)) for each in records))


async def write_rows(settings: KafkaSettings, clients: Clients, rows: int) -> range:
    """Write `rows` rows as processors would, and the ledgers; return the last numbers.

    Every client has the same number of rows; the range has one number for each client.
    """
    rounds = max(1, rows // clients.size)
    partitions = settings.kafka_partitions

    def records() -> Iterator[tuple[int, bytes, bytes]]:
        for start in range(0, rounds * clients.size, clients.size):
            for number in clients.shuffled(start):
                key = clients.key(number)
                yield partition_of(key, partitions), key, clients.row(number)
        count = rounds * clients.size
        for partition in range(partitions):
            ledger = LedgerRow(version=ROW_VERSION, offset=count, read=count, applied=count)
            yield partition, ledger_key(partition), encode_ledger_row(ledger)

    await _append(settings, topics_from(settings).entity_state.name, records())
    return range((rounds - 1) * clients.size, rounds * clients.size)


async def _append(
    settings: KafkaSettings, topic: str, records: Iterable[tuple[int, bytes, bytes]]
) -> None:
    """Append records, as partition, key and value, in large batches."""
    options = client_options(settings) | {"request_timeout_ms": 30_000}
    producer = AIOKafkaProducer(**options, max_batch_size=BATCH_BYTES, enable_idempotence=True)
    await producer.start()
    try:
        batches: dict[int, BatchBuilder] = {}
        for partition, key, value in records:
            batch = batches.get(partition) or producer.create_batch()
            if batch.append(key=key, value=value, timestamp=None) is None:
                await (await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
            batches[partition] = batch
        for partition, batch in batches.items():
            await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()
