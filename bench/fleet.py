"""Whoever reports in a measurement: registered straight in the topic, with values that are known.

Submission number n is that of the entity n mod (size of the fleet), and its number is in every
value: from what a topic or a scrape shows one can tell which submission that was.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from contract.kinds import CLIENT, HEADEND
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record, hash_api_key
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import topics_from

BATCH_BYTES = 900_000
UPTIME = 3600.5
_CLIENT_VALUES = (
    b'{"bytes_sent":1%012d,"bytes_received":2%012d,"packets_sent":3%012d,'
    b'"packets_received":4%012d,"connection_uptime":3600.5}'
)
_HEADEND_VALUES = (
    b'{"active_connections":1%012d,"bandwidth_in":1000000000,"bandwidth_out":2000000000,'
    b'"cpu_usage":45.5,"memory_usage":2%012d}'
)
_CLIENT_ITEM = b'{"kind":"client","id":"client-%07d","headless":false,"metrics":' + _CLIENT_VALUES
UNIT = 10**12


@dataclass(frozen=True)
class Clients:
    """A fleet of clients, which submit with API keys."""

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
        values = _CLIENT_VALUES % ((number,) * 4)
        return b'{"headless":false,"metrics":%b}' % values

    def item(self, number: int) -> bytes:
        """The submission as an item of a relay's batch."""
        return _CLIENT_ITEM % (number % self.size, number, number, number, number) + b"}"

    def metrics(self, number: int) -> dict[str, int | float]:
        return {
            "bytes_sent": UNIT + number,
            "bytes_received": 2 * UNIT + number,
            "packets_sent": 3 * UNIT + number,
            "packets_received": 4 * UNIT + number,
            "connection_uptime": UPTIME,
        }

    def records(self, first: int = 0) -> Iterator[RegistryRecord]:
        """Registrations, from the client `first` on."""
        for number in range(first, self.size):
            yield _record(
                CLIENT.name,
                self.id(number),
                self.labels(number)["name"],
                {"type": "native"},
                self.credential(number),
            )


@dataclass(frozen=True)
class Headends:
    """A fleet of headends, which submit with tokens that they got for their API keys."""

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
            yield _record(HEADEND.name, id, id, attributes, self.api_key(number))


Fleet = Clients | Headends


def _record(
    kind: str, id: str, name: str, attributes: dict[str, str], api_key: str
) -> RegistryRecord:
    return RegistryRecord(
        version=RECORD_VERSION,
        kind=kind,
        id=id,
        revision=1,
        name=name,
        attributes=attributes,
        api_keys=[hash_api_key(api_key)],
    )


async def register(settings: KafkaSettings, records: Iterator[RegistryRecord]) -> None:
    """Write registrations as a gateway would have, in large batches: over HTTP it takes minutes."""
    topic = topics_from(settings).registry.name
    options = client_options(settings) | {"request_timeout_ms": 30_000}
    producer = AIOKafkaProducer(**options, max_batch_size=BATCH_BYTES, enable_idempotence=True)
    await producer.start()
    try:
        batch = producer.create_batch()
        for record in records:
            value, key = encode_record(record), f"{record.kind}:{record.id}".encode()
            if batch.append(key=key, value=value, timestamp=None) is None:
                await (await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()
