"""The audit at the end: every answer of 200 against the topic of submissions, and that whole topic,
folded anew, against rows and ledgers.
"""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from contract.row import LedgerRow
from service.kafka import topics_of
from service.reader import TopicReader
from service.settings import KafkaSettings
from tests.chaos.answered import Answered
from tests.chaos.model import Verdict
from tests.integration.workers import Found, Model


async def audit(settings: KafkaSettings, answered: Answered) -> Verdict:
    """Look for all that was answered 200, fold all that was ever submitted, and compare it exactly
    with the rows that are there.

    What must be there is the last record of each key: what compaction keeps.
    """
    expected, found = await Model.of(settings), await Found.of(settings)
    await _look(settings, answered)
    verdict = Verdict(lost=answered.missing(), wrong=[*answered.wrong])
    for partition, state in expected.states.items():
        ledger = found.ledgers.get(partition)
        if ledger is None or _counts(ledger) != _counts(state.ledger):
            verdict.wrong.append(f"the ledger is {ledger}, and {state.ledger} by recounting")
    rows = {key: row for state in expected.states.values() for key, row in state.rows.items()}
    for key in rows.keys() | found.rows.keys():
        if rows.get(key) != found.rows.get(key):
            verdict.wrong.append(f"{key!r} is {found.rows.get(key)!r}, not {rows.get(key)!r}")
    return verdict


async def _look(settings: KafkaSettings, answered: Answered) -> None:
    def take(partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            answered.look(partition, record.offset, record.timestamp, record.value)

    topic, partitions = topics_of(settings).submissions.name, range(settings.kafka_partitions)
    async with TopicReader(settings, topic, partitions) as reader:
        await reader.read_to_end(take, {})


def _counts(ledger: LedgerRow) -> tuple[int, ...]:
    """What must be the same however often a batch was begun.

    One whose rows were written, and its ledger not, is folded again: a submission that was stale
    then counts as applied if its row is newer by now.
    """
    settled = ledger.applied + ledger.stale
    return (ledger.offset, ledger.read, settled, ledger.late, ledger.dead_lettered, ledger.lost)
