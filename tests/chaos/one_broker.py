"""One broker that loses acknowledged records: power cuts and recreated topics under load.

After each fault the topic itself is read. Records that it still has must be applied. The receipt of
a lost one must be `processed` or `lost`, in agreement with what was shown before.
"""

import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from aiokafka import ConsumerRecord

from contract.frame import decode_frame
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.reader import TopicReader
from service.kafka.topics import ensure_topics, topics_from
from tests.chaos.brokers import member_of
from tests.chaos.history_model import Ack, HistoryModel, LogRecord
from tests.chaos.installation import (
    ADMIN_TOKEN,
    ANSWER_WITHIN,
    METRICS_TOKEN,
    ChaosService,
    Tell,
    service_environ,
)
from tests.chaos.power_cuts import cut_tails
from tests.chaos.scrape import Scrape, parse
from tests.chaos.supervised_process import SupervisedProcess
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import install_kafka

PARTITIONS = 3
CLIENTS = 30
PAUSE = 0.15
"""Seconds between a client's submissions."""
SETTLING = 60
"""Submissions that must be acknowledged after a fault."""
PATIENCE = 60.0
"""Seconds in which all records of the topic must be shown after a fault."""
RECEIPTS = 25
"""Receipts of each kind that are looked up after a fault."""


Compare = Callable[[Ack, int, Mapping[str, Any]], list[str]]
"""Returns what is wrong with a receipt's response, given its status and document."""


class OneBroker:
    """One broker, gateway, worker and exporter, each kept running."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        self.tell = tell
        self.folder = folder
        self.cluster = Cluster(folder / "kafka", install_kafka())
        self._keeping: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.cluster.start()
        self.settings = KafkaSettings(
            kafka_bootstrap_servers=self.cluster.bootstrap_servers, kafka_partitions=PARTITIONS
        )
        (broker,) = self.cluster.brokers
        self.data = broker.folder / "data"
        self.broker = member_of(broker, self.tell)
        try:
            await ensure_topics(self.settings)
            environ = service_environ(
                self.folder,
                self.settings.kafka_bootstrap_servers,
                partitions=PARTITIONS,
                replication=1,
            )
            kinds = ("gateway", "processor", "exporter")
            self.gateway, self.worker, self.exporter = services = [
                ChaosService(kind, 1, self.folder, environ, self.tell) for kind in kinds
            ]
            for member in (self.broker, *(service.member for service in services)):
                self._keep(member)
            yield
        finally:
            for task in reversed(self._keeping):
                task.cancel()
            await asyncio.gather(*self._keeping, return_exceptions=True)

    def _keep(self, member: SupervisedProcess) -> None:
        member.up()
        self._keeping.append(asyncio.create_task(member.keep(), name=member.name))


class Rounds:
    """Causes faults at random times, and compares the result after each."""

    def __init__(self, run: OneBroker, rng: random.Random, http: aiohttp.ClientSession) -> None:
        self.run = run
        self.model = HistoryModel(PARTITIONS)
        self.wrong: list[str] = []
        self._rng = rng
        self._http = http
        self._going = asyncio.Event()
        self._flying = 0
        self._keys: dict[str, str] = {}
        self.rows_cut = 0
        """Number of times that `entity-state` lost its ends; exporters start over then."""

    async def enrol(self) -> None:
        """Register the clients when the gateway is ready."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        url = f"{self.run.gateway.url}/api/v1/clients/register"
        await self._until_ready(self.run.gateway, self.run.worker, self.run.exporter)
        for number in range(CLIENTS):
            body = {"name": f"c-{number}", "type": "native", "client_id": f"c-{number}"}
            async with self._http.post(url, json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                self._keys[f"client:c-{number}"] = (await answer.json())["api_key"]

    @contextlib.asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Submit from all clients, and scrape the exporter, during the context."""
        self._going.set()
        tasks = [asyncio.create_task(self._submit(key)) for key in self._keys]
        tasks.append(asyncio.create_task(self._watch()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for found in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(found, asyncio.CancelledError):
                    self.wrong.append(f"the load failed: {found!r}")

    async def round(self, fault: str) -> str:
        """Cause one fault and compare; return a description."""
        self._going.set()
        await self._acknowledges(self._rng.randint(SETTLING // 2, 2 * SETTLING))
        life = self.run.worker.member.starts
        what = await FAULTS[fault](self)
        remembers = "entity-state" not in what or self.run.worker.member.starts == life
        await self._until_ready(self.run.gateway, self.run.worker, self.run.exporter)
        await self._acknowledges(SETTLING)
        remembers = remembers and (
            "entity-state" not in what or self.run.worker.member.starts == life
        )
        self._going.clear()
        async with asyncio.timeout(ANSWER_WITHIN + 5):
            while self._flying:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        log = await self._log()
        kept, gone = self.model.sort(log)
        scrape = await self._shows(kept)
        text = f"{fault} ({what}): {len(kept)} kept, {len(gone)} lost"
        if scrape is not None:
            self.wrong += self.model.compare(scrape, kept, remembers=remembers)
            await self._look_up(kept, self.model.check_kept, RECEIPTS)
            counted = await self._look_up(gone, self.model.check_gone, len(gone))
            read = await self._read_to_the_end()
            self.wrong += self.model.sum_up(read, log, counted, remembers=remembers)
            text += f" ({len(counted)} of them counted)"
        self.model.end_round()
        return text + ("" if remembers else ", no worker remembered the rows")

    async def power_cut(self) -> str:
        """Kill the broker and cut the ends of its logs, with the worker running or stopped."""
        is_alive = self._rng.random() < 0.5
        if not is_alive:
            await self.run.worker.member.down(signal.SIGKILL)
            await self._acknowledges(self._rng.randint(1, SETTLING // 2))
        topics = topics_from(self.run.settings)
        losing = [topics.submissions]
        if is_alive and self._rng.random() < 0.5:
            losing.append(topics.entity_state)
            self.rows_cut += 1
        self.model.begin_fault(worker_killed=not is_alive)
        await self.run.broker.down(signal.SIGKILL)
        cut = cut_tails(self.run.data, losing, self._rng)
        self.run.tell(f"cut: {cut}")
        self.run.broker.up()
        if not is_alive:
            self.run.worker.member.up()
        names = " and ".join(sorted({name.partition(".")[2].rpartition("-")[0] for name in cut}))
        return f"worker {'alive' if is_alive else 'down'}, lost ends of {names or 'nothing'}"

    async def recreate(self) -> str:
        """Delete and recreate the submissions topic."""
        topic = topics_from(self.run.settings).submissions.name
        is_alive = self._rng.random() < 0.5
        if not is_alive:
            await self.run.worker.member.down(signal.SIGKILL)
        self.model.begin_fault(worker_killed=not is_alive)
        async with admin_client(self.run.settings) as admin:
            await admin.delete_topics([topic])
        await ensure_topics(self.run.settings)
        if not is_alive:
            await self._acknowledges(self._rng.randint(1, SETTLING // 2))
            self.run.worker.member.up()
        return f"worker {'alive' if is_alive else 'down'}"

    async def _acknowledges(self, number: int) -> None:
        target = self.model.acknowledged + number
        async with asyncio.timeout(PATIENCE):
            while self.model.acknowledged < target:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def _submit(self, key: str) -> None:
        url = f"{self.run.gateway.url}/api/v1/clients/{key.partition(':')[2]}/metrics"
        headers = {"Authorization": f"Bearer {self._keys[key]}"}
        while True:
            await self._going.wait()
            self._flying += 1
            number = self.model.send(key)
            try:
                body = {"metrics": dict.fromkeys(METRICS, number)}
                async with self._http.post(url, json=body, headers=headers) as answer:
                    document = await answer.json()
                    if answer.status == 200:
                        self.model.acknowledge(key, number, document["receipt"])
                    elif answer.status != 503:
                        self.wrong.append(f"{key} got the status {answer.status}: {document}")
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass  # its outcome is unknown
            finally:
                self._flying -= 1
            await asyncio.sleep(PAUSE * self._rng.uniform(0.5, 1.5))

    async def _watch(self) -> None:
        while True:
            scrape = await self._scrape([])
            if scrape is not None:
                self.wrong += self.model.see(scrape)
            await asyncio.sleep(0.3)

    async def _scrape(self, receipts: Sequence[str]) -> Scrape | None:
        """Scrape the exporter; None if it does not respond."""
        parameters = [("after", receipt) for receipt in receipts]
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            url = f"{self.run.exporter.url}/metrics"
            async with self._http.get(url, params=parameters, headers=READING) as answer:
                if answer.status == 200:
                    return parse(await answer.text())
                if answer.status not in (503, 504):
                    self.wrong.append(f"{receipts}: {answer.status} {await answer.text()}")
        return None

    async def _shows(self, kept: Sequence[Ack]) -> Scrape | None:
        """Return a scrape that includes the newest record of each partition."""
        newest: dict[int, Ack] = {}
        for ack in kept:
            held = newest.get(ack.receipt.partition)
            if held is None or ack.receipt.offset >= held.receipt.offset:
                newest[ack.receipt.partition] = ack
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    receipts = [str(ack.receipt) for ack in newest.values()]
                    if (scrape := await self._scrape(receipts)) is not None:
                        return scrape
                    await asyncio.sleep(0.2)
        async with self._http.get(f"{self.run.worker.url}/-/ready") as answer:
            self.wrong.append(f"the pipeline makes no progress: {await answer.text()}")
        return None

    async def _look_up(self, acks: Sequence[Ack], compare: Compare, number: int) -> list[Ack]:
        """Check the receipts' statuses; return the submissions that are `processed`."""
        processed = []
        for ack in self._rng.sample(acks, min(len(acks), number)):
            url = f"{self.run.exporter.url}/api/v1/receipts/{ack.receipt}"
            async with self._http.get(url, headers=READING) as answer:
                document = await answer.json()
                self.wrong += compare(ack, answer.status, document)
                if document.get("state") == "processed":
                    processed.append(ack)
        return processed

    async def _read_to_the_end(self) -> dict[int, int]:
        """Return the ledgers' counts by partition when they cover the whole topic."""
        url = f"{self.run.exporter.url}/api/v1/ledger"
        async with asyncio.timeout(PATIENCE):
            while True:
                async with self._http.get(url, headers=READING) as answer:
                    partitions = (await answer.json())["partitions"]
                if all(each["lag_records"] == each["missing_records"] == 0 for each in partitions):
                    return {each["partition"]: each["read"] for each in partitions}
                await asyncio.sleep(0.2)

    async def _log(self) -> dict[tuple[int, int], LogRecord]:
        """Return all records of the topic."""
        found: dict[tuple[int, int], LogRecord] = {}

        def take(partition: int, records: Sequence[ConsumerRecord]) -> None:
            for each in records:
                number = len(decode_frame(each.value).submissions)
                found[partition, each.offset] = LogRecord(each.timestamp, number)

        topic = topics_from(self.run.settings).submissions.name
        async with TopicReader(self.run.settings, topic, range(PARTITIONS)) as reader:
            await reader.read_to_end(take, {})
        return found

    async def _until_ready(self, *services: ChaosService) -> None:
        async with asyncio.timeout(PATIENCE):
            for service in services:
                while not await self._is_ready(service):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    async def _is_ready(self, service: ChaosService) -> bool:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._http.get(f"{service.url}/-/ready") as answer:
                return answer.status == 200
        return False


READING = {"Authorization": f"Bearer {METRICS_TOKEN}"}
METRICS = HistoryModel.METRICS
FAULTS: dict[str, Callable[[Rounds], Any]] = {
    "power-cut": Rounds.power_cut,
    "topic-recreated": Rounds.recreate,
}


async def run(folder: Path, rounds: int, seed: int, names: Sequence[str]) -> list[str]:
    """Run; return everything that was wrong."""
    started = time.monotonic()

    def tell(line: str) -> None:
        with (folder / "journal").open("a", encoding="utf-8") as journal:
            journal.write(f"{time.monotonic() - started:.2f} {line}\n")

    rng = random.Random(seed)
    one = OneBroker(folder, tell)
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN + 4)
    async with one.running(), aiohttp.ClientSession(timeout=timeout) as http:
        runner = Rounds(one, rng, http)
        await runner.enrol()
        async with runner.load():
            for number in range(rounds):
                began, before = time.monotonic(), len(runner.wrong)
                text = await runner.round(names[number % len(names)])
                seconds = time.monotonic() - began
                print(f"{text}, wrong {len(runner.wrong) - before}, {seconds:.0f} s", flush=True)
                for line in runner.wrong[before:][:10]:
                    print(f"    {line}", flush=True)
    # Workers may end themselves instead of continuing in an unknown state.
    exits = one.exporter.member.exits[runner.rows_cut :] + one.gateway.member.exits
    ended = [f"{each.member} ended by itself: {each.how}" for each in exits]
    print(*ended, sep="\n", end="\n" if ended else "")
    return runner.wrong + ended


def main() -> int:
    """Run as the environment specifies; the exit status is 1 if anything was wrong."""
    rounds = int(os.environ.get("ROUNDS") or 10)
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    names = os.environ.get("FAULTS", "").replace(",", " ").split() or list(FAULTS)
    if strangers := [name for name in names if name not in FAULTS]:
        print(f"no such fault of one broker: {', '.join(strangers)}; there are {', '.join(FAULTS)}")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="chaos-one-"))
    print(f"{folder} SEED={seed} ROUNDS={rounds} FAULTS={','.join(names)}", flush=True)
    wrong = uvloop.run(run(folder, rounds, seed, names))
    print(f"{rounds} rounds, wrong {len(wrong)}; the logs are in {folder}")
    return 1 if wrong else 0
