"""Submissions as work for the load generator, and a check that Kafka has what was acknowledged."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from aiokafka import ConsumerRecord

from bench.errors import WrongResultError
from bench.fleet import Clients, Fleet
from bench.load import END, post
from contract.frame import decode_frame
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from

BATCH = 500


class _SubmissionResponse(msgspec.Struct):
    status: str
    receipt: str


class _BatchResponse(msgspec.Struct):
    accepted: int
    rejected: list[msgspec.Raw]
    receipts: list[str]


_received = msgspec.json.Decoder(_SubmissionResponse)
_batch_received = msgspec.json.Decoder(_BatchResponse)


class Acknowledged:
    """What a gateway has answered 200: the submissions' numbers by their receipts."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.numbers: dict[str, int] = {}
        self.next = 0
        """Number of the next submission."""
        self.beside: dict[str, tuple[str, dict[str, int | float]]] = {}
        """Submissions of others than the fleet, by their receipts: whose, and which metrics."""
        self._settings = settings
        self._starts: dict[int, int] = {}

    def take(self, receipts: Sequence[str], first: int) -> None:
        """Note that the submissions from number `first` on have these receipts."""
        known = len(self.numbers)
        self.numbers.update(zip(receipts, range(first, first + len(receipts)), strict=True))
        if len(self.numbers) != known + len(receipts):
            raise WrongResultError(f"a receipt was given twice, among {receipts[:3]}")

    async def check(self, fleet: Fleet) -> None:
        """Compare with what came into the topic since the last check: `fleet`'s, and `beside` it.

        Raises:
            WrongResultError: anything is missing, too much, late, or not what was sent.
        """
        topic = topics_from(self._settings).submissions.name
        partitions = range(self._settings.kafka_partitions)

        def compare(partition: int, records: Sequence[ConsumerRecord]) -> None:
            self._compare(fleet, partition, records)

        async with TopicReader(self._settings, topic, partitions) as reader:
            self._starts = await reader.read_to_end(compare, self._starts)
        if lost := [*self.numbers, *self.beside]:
            raise WrongResultError(
                f"{len(lost)} acknowledged submissions are not in Kafka, e.g. {lost[0]}"
            )

    def _compare(self, fleet: Fleet, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            frame = decode_frame(record.value)
            # One without submissions only asks the broker for its time.
            if frame.submissions and frame.is_late(record.timestamp):
                raise WrongResultError(f"the frame {partition}-{record.offset} is late")
            for index, submission in enumerate(frame.submissions):
                receipt = str(Receipt(partition, record.offset, index, record.timestamp))
                number = self.numbers.pop(receipt, None)
                if number is not None:
                    expected = fleet.id(number), fleet.metrics(number)
                elif receipt in self.beside:
                    expected = self.beside.pop(receipt)
                else:
                    raise WrongResultError(f"{receipt} is in Kafka, but was not acknowledged")
                if (submission.id, submission.metrics) != expected:
                    raise WrongResultError(f"{receipt} holds {submission}, expected {expected}")


@dataclass
class SingleWorkload:
    """`count` submissions, one a request, with each entity's own credential."""

    acknowledged: Acknowledged
    fleet: Fleet
    count: int
    heads: list[bytes]
    """From `request_heads`."""

    def __post_init__(self) -> None:
        self._next = self.acknowledged.next
        self.acknowledged.next = self._end = self._next + self.count

    def next(self) -> tuple[int, bytes] | None:
        number = self._next
        if number == self._end:
            return None
        self._next += 1
        return number, self.heads[number % self.fleet.size] + self.fleet.body(number)

    def answered(self, number: int, status: int, body: bytes) -> None:
        if status != 200:
            raise WrongResultError(f"a submission was answered {status}: {body[:500]!r}")
        answer = _received.decode(body)
        if answer.status != "metrics_received":
            raise WrongResultError(f"a submission was answered {body[:500]!r}")
        self.acknowledged.take((answer.receipt,), number)

    async def check(self) -> None:
        await self.acknowledged.check(self.fleet)


def request_heads(fleet: Fleet) -> list[bytes]:
    """The requests of each entity up to their bodies, which all have the same length."""
    heads = []
    for number in range(fleet.size):
        request = post(
            fleet.path(number),
            fleet.body(number),
            Authorization=f"Bearer {fleet.credential(number)}",
            Content_Type="application/json",
        )
        heads.append(request[: request.index(END) + len(END)])
    return heads


@dataclass
class BatchWorkload:
    """`count` submissions in batches of a relay. A batch has the number of its first submission."""

    acknowledged: Acknowledged
    fleet: Clients
    count: int
    relay_key: str
    size: int = BATCH
    path: str = field(default="/api/v1/metrics", init=False)

    def __post_init__(self) -> None:
        self._next = self.acknowledged.next
        self.acknowledged.next = self._end = self._next + self.count

    def next(self) -> tuple[int, bytes] | None:
        first = self._next
        if first == self._end:
            return None
        self._next = last = min(first + self.size, self._end)
        return first, self.request(first, last)

    def request(self, first: int, last: int) -> bytes:
        """The batch of the submissions from `first` to before `last`."""
        items = b",".join([self.fleet.item(number) for number in range(first, last)])
        return post(
            self.path,
            b"[%b]" % items,
            Authorization=f"Bearer {self.relay_key}",
            Content_Type="application/json",
        )

    def answered(self, number: int, status: int, body: bytes) -> None:
        self.acknowledged.take(self.receipts(number, status, body), number)

    def receipts(self, number: int, status: int, body: bytes) -> list[str]:
        """The receipts of a batch that was accepted whole.

        Raises:
            WrongResultError: it was not.
        """
        size = min(number + self.size, self._end) - number
        if status != 200:
            raise WrongResultError(f"a batch was answered {status}: {body[:500]!r}")
        answer = _batch_received.decode(body)
        if answer.rejected or answer.accepted != size or len(answer.receipts) != size:
            raise WrongResultError(f"of a batch of {size}, not all was accepted: {body[:500]!r}")
        return answer.receipts

    async def check(self) -> None:
        await self.acknowledged.check(self.fleet)
