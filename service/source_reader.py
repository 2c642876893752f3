"""A topic reader that also knows what identifies a log: topic id, leader epochs, single records."""

from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from service.kafka_compat import EpochEnd, TopicDetails, describe_topic, epoch_ends
from service.reader import TopicReader


class SourceReader(TopicReader):
    """Reads single records, and asks for what tells one history of a log from another."""

    async def describe(self) -> TopicDetails:
        """The topic's id, and the leaders of all its partitions.

        Raises:
            KafkaError: no broker answers, or there is no such topic.
        """
        return await describe_topic(self._consumer._client, self._topic)

    async def epoch_ends(
        self, details: TopicDetails, epochs: Mapping[int, int]
    ) -> dict[int, EpochEnd]:
        """Where the history with each partition's leader epoch ends.

        Raises:
            KafkaError: a partition has no leader, or its leader does not answer.
        """
        return await epoch_ends(self._consumer._client, self._topic, details.leaders, epochs)

    async def record_from(
        self, partition: int, offset: int, end: int
    ) -> ConsumerRecord[bytes, bytes] | None:
        """The first record at `offset` or after it, before `end`; None where there is none.

        Raises:
            OffsetOutOfRangeError: retention has just deleted the offset.
            KafkaError: Kafka does not answer.
        """
        found: list[ConsumerRecord[bytes, bytes]] = []

        def take(_: int, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
            found.extend(records[:1])

        self.seek({partition: offset})
        while not found and await self.position(partition) < end:
            await self.poll(take, [partition])
        return found[0] if found and found[0].offset < end else None

    @property
    def _topic(self) -> str:
        return str(next(iter(self._partitions.values())).topic)
