"""The audit at the end of a run: compares acknowledgements, source topic, rows and ledgers."""

from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from contract.ledger import LedgerRow
from processor.core.frame_reducer import reduce_frame
from processor.core.partition_state import PartitionState
from processor.core.source_record import Record
from processor.core.write_batch import WriteBatch
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.chaos.ack_checker import AckChecker
from tests.chaos.model import Verdict
from tests.integration.workers import Found


class Recount:
    """The submissions topic, reduced from its first record by the pure functions.

    It is read at the end of a run, and before a fault deletes records.
    """

    def __init__(self, settings: KafkaSettings, answered: AckChecker) -> None:
        self.states = {p: PartitionState(p) for p in range(settings.kafka_partitions)}
        self.unread: dict[int, list[bytes]] = {}
        """Frames that `read` has not counted."""
        self._settings = settings
        self._answered = answered
        self._next = dict.fromkeys(self.states, 0)

    async def read(self, up_to: Mapping[int, int] | None = None) -> dict[int, int]:
        """Read to the end and check the acknowledged submissions; return the end offsets.

        `up_to` are the last offsets that count; later frames go to `unread`.
        """
        self.unread = {partition: [] for partition in self.states}

        def take(partition: int, records: Sequence[ConsumerRecord]) -> None:
            batch = WriteBatch(self.states[partition])
            for each in records:
                self._answered.check(partition, each.offset, each.timestamp, each.value)
                if up_to is not None and each.offset > up_to.get(partition, -1):
                    self.unread[partition].append(each.value)
                else:
                    record = Record(partition, each.offset, each.timestamp, each.value)
                    reduce_frame(batch, record, self._settings.kafka_partitions)
            batch.commit()

        topic = topics_from(self._settings).submissions.name
        async with TopicReader(self._settings, topic, self.states) as reader:
            self._next = await reader.read_to_end(take, self._next)
        return self._next

    def skip_unread(self) -> None:
        """Count the frames in `unread` as lost."""
        for partition, frames in self.unread.items():
            self.states[partition].ledger.lost += len(frames)


async def audit(settings: KafkaSettings, recount: Recount, answered: AckChecker) -> Verdict:
    """Check all acknowledged submissions, reduce the whole topic, and compare it with the rows.

    Only the last record of each key counts, as compaction keeps it.
    """
    await recount.read()
    found = await Found.of(settings)
    verdict = Verdict(lost=answered.missing(), wrong=[*answered.wrong])
    for partition, state in recount.states.items():
        ledger = found.ledgers.get(partition)
        if ledger is None or _counts(ledger) != _counts(state.ledger):
            verdict.wrong.append(f"the ledger is {ledger}, but the recount gives {state.ledger}")
    rows = {key: row for state in recount.states.values() for key, row in state.rows.items()}
    for key in rows.keys() | found.rows.keys():
        if rows.get(key) != found.rows.get(key):
            verdict.wrong.append(f"{key!r} is {found.rows.get(key)!r}, not {rows.get(key)!r}")
    return verdict


def _counts(ledger: LedgerRow) -> tuple[int, ...]:
    """Return the counters that do not depend on how often a batch was started.

    A batch whose rows were written without its ledger is reduced again: a submission that was stale
    then counts as applied if its row is newer by then.
    """
    settled = ledger.applied + ledger.stale
    return (ledger.offset, ledger.read, settled, ledger.late, ledger.dead_lettered, ledger.lost)
