"""How the ledgers of an installation compare with its submissions topic."""

from contract.row import LedgerRow
from processor.core.source_history import SourceEvidence, Verdict, judge
from processor.runtime.source_evidence import collect
from service.config.settings import KafkaSettings
from service.kafka.source_reader import SourceReader
from service.kafka.topics import topics_from


async def compare_with_source(
    settings: KafkaSettings, ledgers: dict[int, LedgerRow]
) -> dict[int, tuple[SourceEvidence, Verdict]]:
    """Compare ledgers, by partition, as a processor does; once, and without changing anything.

    Raises:
        KafkaError: Kafka does not respond.
    """
    topic = topics_from(settings).submissions.name
    async with SourceReader(settings, topic, ledgers) as reader:
        found = await collect(reader, ledgers)
    return {p: (found[p], judge(ledger, found[p])) for p, ledger in ledgers.items()}
