"""Writes anomalies to their topic on a best-effort basis: their counters are exact, the topic is
not."""

from collections.abc import Iterable

from contract.anomaly import Anomaly, encode_anomaly
from contract.entity import entity_key
from processor.metrics import ProcessorMetrics
from service.config.settings import KafkaSettings
from service.kafka.best_effort_producer import BestEffortProducer, PartitionRecord


class AnomalyProducer:
    """Writes the enqueued anomalies while `run` runs."""

    def __init__(self, settings: KafkaSettings, topic: str, metrics: ProcessorMetrics) -> None:
        self._producer = BestEffortProducer(settings, topic, metrics.dropped_anomalies.inc)

    def enqueue(self, anomalies: Iterable[Anomaly]) -> None:
        """Enqueue anomalies; those that do not fit are counted as dropped."""
        self._producer.enqueue(
            PartitionRecord(
                anomaly.partition, entity_key(anomaly.kind, anomaly.id), encode_anomaly(anomaly)
            )
            for anomaly in anomalies
        )

    async def run(self) -> None:
        """Write forever; drop anomalies while Kafka is unavailable."""
        await self._producer.run()
