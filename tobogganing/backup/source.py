"""How the ledgers of an installation compare with its submissions topic."""

from typing import NamedTuple

from contract.row import LedgerRow
from processor.core.source_history import SourceEvidence, Verdict, judge
from processor.source.evidence import collect
from service.config.settings import KafkaSettings
from service.kafka.source_reader import SourceReader
from service.kafka.topics import topics_from


class SourceComparison(NamedTuple):
    """What Kafka says of a partition, and what follows for its ledger."""

    evidence: SourceEvidence
    verdict: Verdict


async def compare_with_source(
    settings: KafkaSettings, ledgers: dict[int, LedgerRow]
) -> dict[int, SourceComparison]:
    """Compare ledgers, by partition, as a processor does; once, and without changing anything.

    Raises:
        KafkaError: Kafka does not respond.
    """
    topic = topics_from(settings).submissions.name
    async with SourceReader(settings, topic, ledgers) as reader:
        found = await collect(reader, ledgers)
    return {
        partition: SourceComparison(found[partition], judge(ledger, found[partition]))
        for partition, ledger in ledgers.items()
    }
