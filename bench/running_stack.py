"""The whole pipeline running: gateway, processor and exporter, and what all of it must show."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import httpx
from isal import igzip

from bench.errors import WrongResultError
from bench.fleet import Clients, register
from bench.gateway import register_relay
from bench.pipeline import MeasuredPipeline, MeasuredService
from bench.processes import resident_bytes
from bench.scraping import Page, check_scrape, fetch
from bench.workloads import Acknowledged
from contract.position import Receipt
from service.config.settings import KafkaSettings

_LEDGER = re.compile(rb'^tobogganing_pipeline_(\w+)_total\{partition="\d+"\} (\S+)', re.MULTILINE)
AFTER_SECONDS = "60"


@dataclass
class RunningStack:
    """Everything on this machine, on whichever cores the system chooses."""

    kafka: KafkaSettings
    gateway: MeasuredService
    exporter: MeasuredService
    pids: dict[str, int]
    relay_key: str
    token: dict[str, str]
    acknowledged: Acknowledged
    sent: int = 0
    """Submissions that were answered."""
    last: dict[int, Receipt] = field(default_factory=dict)
    """The last receipt of each partition."""

    def note_batch(self, receipts: Sequence[str], first: int) -> list[Receipt]:
        """Note what a batch was answered; return the last receipt of each partition."""
        self.acknowledged.take(receipts, first)
        return self._note(receipts)

    def note_single(self, receipt: str, id: str, metrics: dict[str, int | float]) -> None:
        """Note what was answered to somebody who is not of the fleet."""
        self.acknowledged.beside[receipt] = (id, metrics)
        self._note([receipt])

    def _note(self, receipts: Sequence[str]) -> list[Receipt]:
        self.sent += len(receipts)
        found = newest(receipts)
        for receipt in found:
            if receipt > self.last.get(receipt.partition, receipt._replace(offset=-1)):
                self.last[receipt.partition] = receipt
        return found

    async def packed_scrape(self, after: Sequence[Receipt]) -> Page:
        """What the exporter shows once it shows these submissions, asked as Prometheus asks: gzip.

        Raises:
            WrongResultError: they were not to be seen in time.
        """
        query = "&".join(f"after={receipt}" for receipt in after)
        headers = self.token | {"accept-encoding": "gzip"}
        return await fetch(self.exporter.port, f"/metrics?{query}", headers)

    async def scrape(self, after: Sequence[Receipt]) -> Page:
        """The same, unpacked."""
        page = await self.packed_scrape(after)
        return page._replace(body=await asyncio.to_thread(igzip.decompress, page.body))

    async def check(self, clients: Clients, numbers: Sequence[int]) -> Page:
        """Compare state, ledger and submissions topic with what was answered.

        Raises:
            WrongResultError: something was lost, or is wrong.
        """
        page = await self.scrape(list(self.last.values()))
        check_scrape(page.body, clients, numbers)
        counts: dict[str, int] = {}
        for name, value in _LEDGER.findall(page.body):
            counts[name.decode()] = counts.get(name.decode(), 0) + int(float(value))
        expected = dict.fromkeys(("stale", "late", "dead_lettered", "lost"), 0)
        expected |= {"read": self.sent, "applied": self.sent}
        expected["histories"] = 0
        if counts != expected:
            raise WrongResultError(f"the ledger has {counts}, not {expected}")
        await self.acknowledged.check(clients)
        return page

    def memory(self) -> dict[str, float]:
        """Megabytes of each service."""
        return {name: resident_bytes(pid) / 1e6 for name, pid in self.pids.items()}


def newest(receipts: Sequence[str]) -> list[Receipt]:
    """The last receipt of each partition: an answer has them in the order of its log."""
    last = {text.partition("-")[0]: text for text in receipts}
    return [Receipt.parse(text) for text in last.values()]


@contextlib.asynccontextmanager
async def running_stack(
    pipeline: MeasuredPipeline, clients: Clients, partitions: int = 4
) -> AsyncIterator[RunningStack]:
    """Run all services, which know the clients."""
    kafka = await pipeline.topics(partitions)
    await register(kafka, clients.records())
    async with contextlib.AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(
                pipeline.service(name, kafka, AFTER_TIMEOUT_SECONDS=AFTER_SECONDS)
            )
            for name in ("gateway", "processor", "exporter")
        ]
        gateway, _, exporter = services
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
            relay_key = await register_relay(http, pipeline)
        pids = {name: pid for service in services for name, pid in service.pids.items()}
        yield RunningStack(
            kafka,
            gateway,
            exporter,
            pids | pipeline.broker,
            relay_key,
            pipeline.secrets.bearer("METRICS_TOKEN"),
            Acknowledged(kafka),
        )
