"""docs/moving.md, executed step by step with its own commands, while a fleet reports."""

import asyncio
import itertools
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from csv import DictReader
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from contract.ledger import LedgerRow
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicOffsets
from service.kafka.topics import topics_from
from tests.integration.command_line import (
    CommandLine,
    clients,
    csv,
    kafka_command,
    submits,
)
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.integration.workers import WorkerLoad, settled
from tests.shared_kafka import SharedKafka
from tests.waiting import pause
from tobogganing.backup.topic_snapshot import RowSnapshot
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install

DOCUMENT = Path(__file__).parents[2] / "docs" / "moving.md"
CLIENTS = 20
SILENT = 15_000
"""Entities with one submission, before the move."""
_SHOWN = re.compile(r'^tobogganing_client_(\w+)\{client_id="([\w-]+)".*\} (\S+)$', re.MULTILINE)


@dataclass
class MovingFleet:
    """Clients that report growing totals to `url`, each until the response is 200."""

    url: str
    keys: dict[str, str]
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Client -> its last acknowledged total."""
    answered: int = 0
    sent: int = 0
    receipts: list[str] = field(default_factory=list)
    """Number of reports since `url` changed."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Report in the background until `stop` is set; `ended` is set when all have stopped."""
        task = asyncio.create_task(self._run())
        try:
            yield
            await task
        finally:
            task.cancel()

    async def _run(self) -> None:
        async with (
            httpx.AsyncClient(timeout=20, trust_env=False) as http,
            asyncio.TaskGroup() as reports,
        ):
            for id in self.keys:
                reports.create_task(self._report(http, id))
        self.ended.set()

    async def _report(self, http: httpx.AsyncClient, id: str) -> None:
        for total in itertools.count(1):
            metrics = {"bytes_sent": total} | ({"packets_sent": 7} if total == 1 else {})
            accepted = False
            while not accepted:
                accepted = await self._post(http, id, metrics)
                await asyncio.sleep(0.1)
            self.acknowledged[id] = total
            self._news.set()
            if self.stop.is_set():
                return

    async def _post(self, http: httpx.AsyncClient, id: str, metrics: dict[str, int]) -> bool:
        url = self.url
        headers = {"authorization": f"Bearer {self.keys[id]}"}
        path = f"{url}/api/v1/clients/{id}/metrics"
        self.sent += 1
        try:
            answer = await http.post(path, json={"metrics": metrics}, headers=headers)
        except httpx.TransportError:
            return False
        if answer.status_code == 200:
            self.answered += 1
            if url == self.url:
                self.receipts.append(answer.json()["receipt"])
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    async def heard(self, reports: int) -> None:
        """Wait for this number of further acknowledged reports of each client."""
        before = dict(self.acknowledged)
        async with asyncio.timeout(60):
            while any(
                self.acknowledged.get(id, 0) < before.get(id, 0) + reports for id in self.keys
            ):
                self._news.clear()
                await self._news.wait()

    def move(self, url: str) -> None:
        self.url = url
        self.receipts.clear()


class Document:
    """The commands of the document, one block at a time, in a shell."""

    def __init__(self, folder: Path, old: KafkaSettings, new: KafkaSettings) -> None:
        text = DOCUMENT.read_text("utf-8")
        blocks = [part.partition("```")[0] for part in text.split("```sh\n")[1:]]
        self._functions, *self._blocks = blocks
        assert len(self._blocks) == 5
        self._folder = folder
        for name, settings in (("old", old), ("new", new)):
            (folder / f"{name}.env").write_text(
                f"KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers}\n"
                f"KAFKA_TOPIC_PREFIX={settings.kafka_topic_prefix}\n"
                f"KAFKA_PARTITIONS={settings.kafka_partitions}\n"
            )

    async def next(self) -> str:
        """Run the next block and return its output."""
        return await self.run(self._blocks.pop(0))

    async def run(self, commands: str, status: int = 0) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *("sh", "-euc", self._functions + commands),
            cwd=self._folder,
            env={"PATH": path, "HOME": str(self._folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == status, said
        return said


def values(page: httpx.Response) -> dict[tuple[str, str], float]:
    """Return the values of a scrape by client and metric."""
    return {(id, name): float(value) for name, id, value in _SHOWN.findall(page.text)}


@asynccontextmanager
async def elsewhere(
    kafka: SharedKafka, install: Install, folder: Path, own_broker: bool
) -> AsyncIterator[SharedKafka | Cluster]:
    """The Kafka to move to."""
    if not own_broker:
        yield kafka
        return
    cluster = Cluster(folder / "second", install)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


@pytest.mark.parametrize(
    "own_broker",
    [
        pytest.param(False, id="same-kafka"),
        pytest.param(True, id="another-kafka", marks=pytest.mark.long),
    ],
)
async def test_a_move_loses_nothing_and_counts_nothing_twice(
    kafka_settings: KafkaSettings,
    kafka: SharedKafka,
    kafka_install: Install,
    tmp_path: Path,
    signing_keys: str,
    own_broker: bool,
) -> None:
    secrets = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}

    def gateway(settings: KafkaSettings) -> Service:
        return Service("gateway", settings, tmp_path, **secrets)

    def processor(settings: KafkaSettings) -> Service:
        return Service("processor", settings, tmp_path, WORKER_NAME="only")

    old = kafka_settings
    async with (
        elsewhere(kafka, kafka_install, tmp_path, own_broker) as target,
        gateway(old) as old_gateway,
        processor(old) as old_processor,
        Service("exporter", old, tmp_path) as old_exporter,
    ):
        new = replace(
            old,
            kafka_bootstrap_servers=target.bootstrap_servers,
            kafka_topic_prefix=f"{old.kafka_topic_prefix}v2.",
            kafka_partitions=12,
        )
        steps = Document(tmp_path, old, new)
        for service in (old_gateway, old_processor, old_exporter):
            await service.wait_until_ready()
        at_old = CommandLine(old_gateway.url)

        async def register(id: str) -> str:
            added = await at_old.good(
                "clients", "add", id, "--type", "native", "--id", id, "--json"
            )
            return str(added.document["api_key"])

        load = WorkerLoad(old)
        await load.backlog(SILENT // 500, 500)
        keys = tmp_path / "keys.csv"
        words = ("fleet", "import", "-", "--format", "csv", "--credentials", str(keys))
        await at_old.good(*words, stdin=csv(clients(CLIENTS)))
        fleet = MovingFleet(old_gateway.url, keys_of(keys))
        assert await submits(old_gateway, "gone", await register("gone")) == 200
        rows = SILENT + CLIENTS + 1
        async with AsyncExitStack() as stack, fleet.reporting():
            await fleet.heard(2)
            assert f"{CLIENTS + 2} written" in await steps.next(), "clients and the signing key"
            new_gateway = await stack.enter_async_context(gateway(new))
            await new_gateway.wait_until_ready()
            assert "registry: 0 written" in await steps.next()
            late = await register("late")  # the new gateways learn of it at the end

            fleet.move(new_gateway.url)
            await old_gateway.end()
            await fleet.heard(2)
            await CommandLine(new_gateway.url).good("clients", "remove", "gone")

            assert f"rows: {rows:,}" in await steps.next()
            last_of_old = values(await old_exporter.scrape())
            await killed_in_the_middle(new, tmp_path / "all.ndjson.gz", rows)
            said = await steps.run("new restore all.ndjson.gz --check", status=1)
            assert "missing" in said
            assert f"rows: {rows:,} written; {rows:,} there" in await steps.next()
            await old_processor.end()
            async with (
                processor(new) as new_processor,
                Service("exporter", new, tmp_path) as new_exporter,
            ):
                await new_exporter.wait_until_ready()
                first_of_new = values(await new_exporter.scrape())
                await new_processor.wait_until_ready()
                await fleet.heard(2)
                assert await submits(new_gateway, "late", late) == 200
                fleet.stop.set()
                await fleet.ended.wait()
                after = [str(receipt) for receipt in newest(fleet.receipts)]
                shown = values(await new_exporter.scrape(*after))
                await settled(new)
                assert "newer" in await steps.run("new restore all.ndjson.gz --check")
                ledgers = [*await ledgers_of(old), *await ledgers_of(new)]
                await old_exporter.end()
                said = await steps.next()
                names = [line.removeprefix("deleted ") for line in said.splitlines()]
                assert names == [topic.name for topic in topics_from(old).all()]
                assert await submits(new_gateway, "late", late) == 200
                assert values(await new_exporter.scrape()).keys() == shown.keys()

    for id, total in fleet.acknowledged.items():
        assert shown[id, "bytes_sent"] == total, id
        assert shown[id, "packets_sent"] == 7, "a metric omitted since the first report"
    assert ("gone", "last_check_in_timestamp") in last_of_old
    assert ("gone", "last_check_in_timestamp") not in shown
    assert len(last_of_old) > SILENT
    missing = {id for id, _ in last_of_old.keys() - first_of_new.keys()}
    assert missing <= {"gone"}, "a new processor may have read its removal already"
    back = {key for key, value in first_of_new.items() if value < last_of_old.get(key, value)}
    assert not back, "a scrape went back"
    assert all(ledger.balances for ledger in ledgers)
    assert not sum(each.stale + each.dead_lettered + each.lost for each in ledgers)
    by_hand = load.sent + 3  # "gone", its removal, and "late"
    counted = sum(ledger.read for ledger in ledgers)
    assert fleet.answered + by_hand <= counted <= fleet.sent + by_hand


def keys_of(file: Path) -> dict[str, str]:
    """Return the API keys by client of a credentials file."""
    with file.open(encoding="utf-8", newline="") as opened:
        return {row["id"]: row["api_key"] for row in DictReader(opened)}


async def killed_in_the_middle(new: KafkaSettings, file: Path, rows: int) -> None:
    """Start a restore, and kill it when only a part of the rows is written."""
    topic, partitions = topics_from(new).entity_state.name, range(new.kafka_partitions)
    async with (
        TopicOffsets(new, topic, partitions) as written,
        kafka_command(new).started("restore", str(file)) as process,
    ):
        # It is stopped at each look, so that it cannot write the rest meanwhile.
        while not sum((await written.end_offsets()).values()):
            process.send_signal(signal.SIGCONT)
            await pause(0.02)
            process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with RowSnapshot(new, range(new.kafka_partitions)) as known:
        await known.read()
    assert 0 < sum(len(state.rows) for state in known.states.values()) < rows


async def ledgers_of(settings: KafkaSettings) -> list[LedgerRow]:
    async with RowSnapshot(settings, range(settings.kafka_partitions)) as known:
        await known.read()
    return [state.ledger for state in known.states.values()]


def newest(receipts: list[str]) -> list[Receipt]:
    """Return the last receipt of each partition."""
    last: dict[int, Receipt] = {}
    for receipt in map(Receipt.parse, receipts):
        last[receipt.partition] = max(receipt, last.get(receipt.partition, receipt))
    return list(last.values())
