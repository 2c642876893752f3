"""How the ledgers of an installation compare with its submissions topic."""

from contract.row import LedgerRow
from processor.source_evidence import collect
from processor.source_history import SourceEvidence, Verdict, judge
from service.kafka import topics_of
from service.settings import KafkaSettings
from service.source_reader import SourceReader


async def compare_with_source(
    settings: KafkaSettings, ledgers: dict[int, LedgerRow]
) -> dict[int, tuple[SourceEvidence, Verdict]]:
    """Compare ledgers, by partition, as a processor does; once, and without changing anything.

    Raises:
        KafkaError: Kafka does not respond.
    """
    topic = topics_of(settings).submissions.name
    async with SourceReader(settings, topic, ledgers) as reader:
        found = await collect(reader, ledgers)
    return {p: (found[p], judge(ledger, found[p])) for p, ledger in ledgers.items()}
