"""Submissions to a gateway, and the check that Kafka has each acknowledged one."""

from collections.abc import Sequence

import msgspec
from aiokafka import ConsumerRecord

from bench.errors import WrongResultError
from bench.fleet import Clients, Fleet
from bench.load import END, Workload, post
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


_decoder = msgspec.json.Decoder(_SubmissionResponse)
_batch_decoder = msgspec.json.Decoder(_BatchResponse)


class Acknowledged:
    """The submissions that a gateway has acknowledged, by receipt."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.numbers: dict[str, int] = {}
        self.next = 0
        """Number of the next submission."""
        self.others: dict[str, tuple[str, dict[str, int | float]]] = {}
        """Submissions from outside the fleet: id and metrics, by receipt."""
        self._settings = settings
        self._starts: dict[int, int] = {}

    def take(self, receipts: Sequence[str], first: int) -> None:
        """Record the receipts of the submissions from number `first` on."""
        known = len(self.numbers)
        self.numbers.update(zip(receipts, range(first, first + len(receipts)), strict=True))
        if len(self.numbers) != known + len(receipts):
            raise WrongResultError(f"a receipt was issued twice, among {receipts[:3]}")

    async def check(self, fleet: Fleet) -> None:
        """Compare with the records appended to the topic since the last check.

        Raises:
            WrongResultError: a submission is missing, unexpected, late, or has other values.
        """
        topic = topics_from(self._settings).submissions.name
        partitions = range(self._settings.kafka_partitions)

        def compare(partition: int, records: Sequence[ConsumerRecord]) -> None:
            self._compare(fleet, partition, records)

        async with TopicReader(self._settings, topic, partitions) as reader:
            self._starts = await reader.read_to_end(compare, self._starts)
        if lost := [*self.numbers, *self.others]:
            raise WrongResultError(
                f"{len(lost)} acknowledged submissions are not in Kafka, e.g. {lost[0]}"
            )

    def _compare(self, fleet: Fleet, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            frame = decode_frame(record.value)
            # An empty frame is a probe of the broker's clock.
            if frame.submissions and frame.is_late(record.timestamp):
                raise WrongResultError(f"the frame {partition}-{record.offset} is late")
            for index, submission in enumerate(frame.submissions):
                receipt = str(Receipt(partition, record.offset, index, record.timestamp))
                number = self.numbers.pop(receipt, None)
                if number is not None:
                    expected = fleet.id(number), fleet.metrics(number)
                elif receipt in self.others:
                    expected = self.others.pop(receipt)
                else:
                    raise WrongResultError(f"{receipt} is in Kafka, but was not acknowledged")
                if (submission.id, submission.metrics) != expected:
                    raise WrongResultError(f"{receipt} holds {submission}, expected {expected}")


class SingleWorkload(Workload):
    """Submissions one a request, each with its entity's own credential."""

    def __init__(
        self, acknowledged: Acknowledged, fleet: Fleet, count: int, heads: list[bytes]
    ) -> None:
        """`heads` is from `request_heads`."""
        super().__init__(acknowledged.next, count)
        acknowledged.next += count
        self._acknowledged, self._fleet, self._heads = acknowledged, fleet, heads

    def request(self, first: int, last: int) -> bytes:
        return self._heads[first % self._fleet.size] + self._fleet.body(first)

    def answered(self, number: int, status: int, body: bytes) -> None:
        if status != 200:
            raise WrongResultError(f"a submission got {status}: {body[:500]!r}")
        response = _decoder.decode(body)
        if response.status != "metrics_received":
            raise WrongResultError(f"a submission got {body[:500]!r}")
        self._acknowledged.take((response.receipt,), number)

    async def check(self) -> None:
        await self._acknowledged.check(self._fleet)


def request_heads(fleet: Fleet) -> list[bytes]:
    """Each entity's request without its body; all bodies of an entity have the same length."""
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


class BatchWorkload(Workload):
    """Submissions in batches of a relay."""

    def __init__(
        self, acknowledged: Acknowledged, clients: Clients, count: int, relay_key: str
    ) -> None:
        super().__init__(acknowledged.next, count, BATCH)
        acknowledged.next += count
        self._acknowledged, self._clients, self._relay_key = acknowledged, clients, relay_key

    def request(self, first: int, last: int) -> bytes:
        items = b",".join([self._clients.item(number) for number in range(first, last)])
        return post(
            "/api/v1/metrics",
            b"[%b]" % items,
            Authorization=f"Bearer {self._relay_key}",
            Content_Type="application/json",
        )

    def answered(self, number: int, status: int, body: bytes) -> None:
        self._acknowledged.take(self.receipts(number, status, body), number)

    def receipts(self, number: int, status: int, body: bytes) -> list[str]:
        """The receipts in the response to a batch.

        Raises:
            WrongResultError: the gateway did not accept the whole batch.
        """
        size = min(number + self.size, self.end) - number
        if status != 200:
            raise WrongResultError(f"a batch got {status}: {body[:500]!r}")
        response = _batch_decoder.decode(body)
        if response.rejected or response.accepted != size or len(response.receipts) != size:
            raise WrongResultError(f"a batch of {size} was not accepted whole: {body[:500]!r}")
        return response.receipts

    async def check(self) -> None:
        await self._acknowledged.check(self._clients)
