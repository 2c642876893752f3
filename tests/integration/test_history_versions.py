"""Workers of the version before histories together with the current ones, on the same ledgers."""

from pathlib import Path

import pytest

from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics, topics_from
from tests.integration.source_histories import A, B, C, send, shown, until
from tests.integration.versions import older_version
from tests.integration.workers import a_worker, running
from tests.power_cut import power_cut
from tobogganing.devstack.cluster import Cluster


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return older_version(tmp_path_factory.mktemp("versions"))


@pytest.mark.long
async def test_a_marked_ledger_survives_an_older_worker(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path, older: Path
) -> None:
    """The older worker drops the marks; the counts remain, and the next current worker adds marks
    again."""
    worker = a_worker(broken, "w", tmp_path)
    topic = topics_from(broken).submissions.name
    await ensure_topics(broken)
    async with running(worker):
        await send(broken, A, 1, 2)
        assert (await until(broken, applied=2)).mark is not None

        worker.code = older
        await worker.end()
        await worker.start()
        await worker.wait_until_ready()
        await send(broken, B, 3)
        ledger = await until(broken, applied=3)
        assert (ledger.version, ledger.mark, ledger.epochs) == (1, None, ())

        worker.code = None
        await worker.end()
        await send(broken, A, 4)
        await worker.start()
        ledger = await until(broken, applied=4)
        assert ledger.mark is not None
        assert (ledger.mark.offset, ledger.parted, ledger.lost) == (3, 0, 0)

        await worker.end()
        await power_cut(own_kafka, {topic: 2})
        await send(broken, C, 5)
        await worker.start()
        ledger = await until(broken, applied=5, parted=1)
        assert await shown(broken) == {A: 4, B: 3, C: 5}
    assert worker.faults() == []


async def test_an_older_worker_stops_at_a_ledger_with_shifted_offsets(
    own_kafka: Cluster, broken: KafkaSettings, tmp_path: Path, older: Path
) -> None:
    """It would read its records at wrong offsets."""
    old, new = a_worker(broken, "w1", tmp_path), a_worker(broken, "w2", tmp_path)
    topic = topics_from(broken).submissions.name
    old.code = older
    await ensure_topics(broken)
    async with running(new):
        await send(broken, A, 1, 2, 3)
        await until(broken, applied=3)
        await power_cut(own_kafka, {topic: 1})
        await send(broken, A, 4)
        before = await until(broken, applied=4, parted=1)
        await new.end()
        async with running(old):
            await send(broken, B, 5)
            text = (await old.http.get("/metrics", headers=old.authorized)).text
            assert (
                'tobogganing_processor_partition_stopped{partition="0",reason="ledger"} 1.0' in text
            )
            assert "row version 2 is not supported" in old.log()
            assert (await until(broken, applied=4)).offset == before.offset
        await new.start()
        assert (await until(broken, applied=5)).parted == 1
        assert await shown(broken) == {A: 4, B: 5}
    assert new.faults() == []
