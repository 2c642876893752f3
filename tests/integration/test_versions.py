"""Two versions at a time: the documented upgrade order shows nothing wrong and loses nothing;
another order loses nothing either."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
import pytest

from contract.ledger import is_ledger_key
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.command_line import kafka_command
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.integration.versions import next_version
from tests.integration.workers import a_worker
from tests.waiting import pause

pytestmark = pytest.mark.xdist_group("versions")

SHOWN = re.compile(r'^tobogganing_client_bytes_sent\{client_id="([^"]+)".*\} (\S+)$', re.M)
FATES = ("applied", "stale", "late", "dead_lettered")
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next_version(tmp_path_factory.mktemp("versions"))


@dataclass
class MixedVersionFleet:
    """Clients that store their acknowledged values."""

    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    receipts: list[str] = field(default_factory=list)

    async def join(self, gateway: Service, count: int) -> None:
        for number in range(count):
            id = f"c-{number}"
            answer = await gateway.http.post(
                "/api/v1/clients/register",
                json={"name": id, "type": "native", "client_id": id},
                headers=ADMIN,
            )
            assert answer.status_code == 200, answer.text
            self.keys[id] = {"authorization": f"Bearer {answer.json()['api_key']}"}

    async def report(self, *gateways: Service) -> None:
        """Submit each client's next number to the first gateway that responds 200."""
        for id, headers in self.keys.items():
            number = self.acknowledged.get(id, 0) + 1
            body = {"metrics": {"bytes_sent": number}}
            async with asyncio.timeout(60):
                while True:
                    for gateway in gateways:
                        with contextlib.suppress(httpx.TransportError):
                            answer = await gateway.http.post(
                                f"/api/v1/clients/{id}/metrics", json=body, headers=headers
                            )
                            if answer.status_code == 200:
                                break
                    else:
                        await asyncio.sleep(0.05)
                        continue
                    break
            self.acknowledged[id] = number
            self.receipts.append(answer.json()["receipt"])

    async def shown(self, exporter: Service) -> dict[str, int]:
        """Return the values of a scrape that includes all acknowledged submissions."""
        scrape = await exporter.scrape(*self.receipts[-len(self.keys) :])
        assert scrape.status_code == 200, scrape.text
        return {id: int(float(value)) for id, value in SHOWN.findall(scrape.text)}

    @contextlib.asynccontextmanager
    async def reporting(self, *gateways: Service) -> AsyncIterator[None]:
        """Report continuously."""
        stop = asyncio.Event()

        async def reporting() -> None:
            while not stop.is_set():
                await self.report(*gateways)
                await pause()

        task = asyncio.create_task(reporting())
        try:
            yield
        finally:
            stop.set()
            await task


@dataclass
class Parts:
    """The services of one installation, two of each."""

    gateways: list[Service]
    workers: list[Service]
    exporters: list[Service]

    @classmethod
    def of(
        cls, settings: KafkaSettings, folder: Path, signing_keys: str, **of_gateways: str
    ) -> "Parts":
        of_gateways |= {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
        return cls(
            [Service("gateway", settings, folder, **of_gateways) for _ in range(2)],
            [a_worker(settings, name, folder) for name in ("w1", "w2")],
            [Service("exporter", settings, folder, AFTER_TIMEOUT_SECONDS="60") for _ in range(2)],
        )


async def ledgers(exporter: Service) -> dict[str, float]:
    """Return the sum of each ledger counter over all partitions."""
    text = (await exporter.scrape()).text
    found = re.findall(r"^tobogganing_pipeline_(\w+)_total\{.*\} (\S+)$", text, re.M)
    sums: dict[str, float] = {}
    for name, value in found:
        sums[name] = sums.get(name, 0) + float(value)
    return sums


async def upgrade(service: Service, code: Path) -> None:
    await service.end(signal.SIGTERM, patience=30)
    service.code = code
    await service.start()
    await service.wait_until_ready()


async def test_an_upgrade_in_the_documented_order(
    settings: KafkaSettings, tmp_path: Path, signing_keys: str, newer: Path
) -> None:
    """Upgrade exporters, processors and gateways in turn while the fleet reports."""
    parts, fleet = Parts.of(settings, tmp_path, signing_keys), MixedVersionFleet()
    async with contextlib.AsyncExitStack() as stack:
        everybody = [*parts.gateways, *parts.workers, *parts.exporters]
        for service in everybody:
            await stack.enter_async_context(service)
        for service in everybody:
            await service.wait_until_ready()
        await fleet.join(parts.gateways[0], 12)
        await fleet.report(*parts.gateways)
        for service in [*parts.exporters, *parts.workers, *parts.gateways]:
            async with fleet.reporting(*parts.gateways):
                await upgrade(service, newer)
            for exporter in parts.exporters:
                assert await fleet.shown(exporter) == fleet.acknowledged
        sums = await ledgers(parts.exporters[0])
        assert sums["dead_lettered"] == sums["lost"] == sums["late"] == 0
        assert sums["read"] == sums["applied"] + sums["stale"]
        assert await newest_ledger_versions(settings) == {2}
        for worker in parts.workers:
            assert worker.faults() == []


async def newest_ledger_versions(settings: KafkaSettings) -> set[int]:
    """Return the version of the last ledger of each partition."""
    found: dict[int, int] = {}

    def take(partition: int, records: object) -> None:
        for record in records:  # type: ignore[attr-defined]
            if is_ledger_key(record.key):
                found[partition] = msgspec.json.decode(record.value)["version"]

    partitions = range(settings.kafka_partitions)
    async with TopicReader(settings, topics_from(settings).entity_state.name, partitions) as reader:
        await reader.read_to_end(take, {})
    return set(found.values())


async def test_frames_of_newer_gateways_are_dead_letters_until_they_are_replayed(
    settings: KafkaSettings, tmp_path: Path, signing_keys: str, newer: Path
) -> None:
    parts, fleet = Parts.of(settings, tmp_path, signing_keys), MixedVersionFleet()
    gateway, worker, exporter = parts.gateways[0], parts.workers[0], parts.exporters[0]
    command = kafka_command(settings)
    async with gateway, worker, exporter:
        for service in (gateway, worker, exporter):
            await service.wait_until_ready()
        await fleet.join(gateway, 4)
        await fleet.report(gateway)
        before = dict(fleet.acknowledged)
        assert await fleet.shown(exporter) == before

        await upgrade(gateway, newer)
        await fleet.report(gateway)
        assert await fleet.shown(exporter) == before
        for receipt in fleet.receipts[-4:]:
            found = await exporter.http.get(
                f"/api/v1/receipts/{receipt}", headers=exporter.authorized
            )
            assert found.json()["state"] == "dead_lettered"
            assert found.json()["reason"] == "frame version 2 is not supported"

        await upgrade(exporter, newer)
        await upgrade(worker, newer)
        command.code = newer
        replayed = await command("dead-letters", "replay", "--all")
        # A frame appended after its deadline got a 503 and stays.
        assert all("it came after its deadline" in line for line in replayed.err.splitlines())
        assert "\n4 submissions sent\n" in replayed.out
        async with asyncio.timeout(60):
            while await fleet.shown(exporter) != fleet.acknowledged:
                await pause()
        assert (await command.good("dead-letters", "list", "--json")).documents != []
        sums = await ledgers(exporter)
        assert sums["read"] == sum(sums[name] for name in FATES)
        assert sums["lost"] == 0


@pytest.mark.long
async def test_older_exporters_show_old_values_until_they_are_upgraded(
    settings: KafkaSettings, tmp_path: Path, signing_keys: str, newer: Path
) -> None:
    parts, fleet = Parts.of(settings, tmp_path, signing_keys), MixedVersionFleet()
    gateway, worker, (exporter, upgraded) = parts.gateways[0], parts.workers[0], parts.exporters
    async with gateway, worker, exporter, upgraded:
        for service in (gateway, worker, exporter, upgraded):
            await service.wait_until_ready()
        await fleet.join(gateway, 4)
        await fleet.report(gateway)
        before = dict(fleet.acknowledged)
        assert await fleet.shown(exporter) == before
        await upgrade(upgraded, newer)
        assert await fleet.shown(upgraded) == before, "a newer exporter reads older rows"

        await upgrade(worker, newer)
        await fleet.report(gateway)
        assert await fleet.shown(upgraded) == fleet.acknowledged
        scrape = await exporter.scrape()
        assert {id: int(float(v)) for id, v in SHOWN.findall(scrape.text)} == before
        own = await exporter.http.get("/-/metrics", headers=exporter.authorized)
        assert "\ntobogganing_exporter_unreadable_entities 0.0" not in own.text
        await upgrade(exporter, newer)
        assert await fleet.shown(exporter) == fleet.acknowledged
