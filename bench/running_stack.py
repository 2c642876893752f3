"""Gateway, processor and exporter together, and the check of what they hold."""

import asyncio
import contextlib
import re
import time
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
from bench.workloads import Acknowledged, BatchWorkload
from contract.position import Receipt
from service.config.settings import KafkaSettings

_LEDGER = re.compile(rb'^tobogganing_pipeline_(\w+)_total\{partition="\d+"\} (\S+)', re.MULTILINE)
AFTER_SECONDS = "60"


@dataclass
class RunningStack:
    """The running services, on any core."""

    kafka: KafkaSettings
    gateway: MeasuredService
    exporter: MeasuredService
    pids: dict[str, int]
    relay_key: str
    token: dict[str, str]
    acknowledged: Acknowledged
    sent: int = 0
    """Acknowledged submissions."""
    last: dict[int, Receipt] = field(default_factory=dict)
    """The last receipt of each partition."""

    def note_batch(self, receipts: Sequence[str], first: int) -> list[Receipt]:
        """Record a batch's receipts; return the last one of each partition."""
        self.acknowledged.take(receipts, first)
        return self._note(receipts)

    def note_single(self, receipt: str, id: str, metrics: dict[str, int | float]) -> None:
        """Record a submission from outside the fleet."""
        self.acknowledged.others[receipt] = (id, metrics)
        self._note([receipt])

    def _note(self, receipts: Sequence[str]) -> list[Receipt]:
        self.sent += len(receipts)
        # A response lists receipts in the order of their log.
        newest = {text.partition("-")[0]: text for text in receipts}
        found = [Receipt.parse(text) for text in newest.values()]
        for receipt in found:
            if receipt > self.last.get(receipt.partition, receipt._replace(offset=-1)):
                self.last[receipt.partition] = receipt
        return found

    async def compressed_scrape(self, after: Sequence[Receipt]) -> Page:
        """A scrape in gzip that includes these submissions.

        Raises:
            WrongResultError: the exporter did not have them in time.
        """
        query = "&".join(f"after={receipt}" for receipt in after)
        headers = self.token | {"accept-encoding": "gzip"}
        return await fetch(self.exporter.port, f"/metrics?{query}", headers)

    async def scrape(self, after: Sequence[Receipt]) -> Page:
        """The same, decompressed."""
        page = await self.compressed_scrape(after)
        return page._replace(body=await asyncio.to_thread(igzip.decompress, page.body))

    async def check(self, clients: Clients, numbers: Sequence[int]) -> Page:
        """Compare scrape, ledger and submissions topic with what was acknowledged.

        Raises:
            WrongResultError: something is missing or wrong.
        """
        page = await self.scrape(list(self.last.values()))
        check_scrape(page.body, clients, numbers)
        counts: dict[str, int] = {}
        for name, value in _LEDGER.findall(page.body):
            counts[name.decode()] = counts.get(name.decode(), 0) + int(float(value))
        expected = dict.fromkeys(("stale", "late", "dead_lettered", "lost", "histories"), 0)
        expected |= {"read": self.sent, "applied": self.sent}
        if counts != expected:
            raise WrongResultError(f"the ledger has {counts}, not {expected}")
        await self.acknowledged.check(clients)
        return page

    def memory(self) -> dict[str, float]:
        """Megabytes of each service."""
        return {name: resident_bytes(pid) / 1e6 for name, pid in self.pids.items()}


class StackWorkload(BatchWorkload):
    """Batches into a running stack, which records their receipts."""

    newest: tuple[int, Sequence[Receipt], float] | None = None
    """The last acknowledged batch: its number, receipts, and when its response came."""

    def __init__(self, stack: RunningStack, clients: Clients, count: int) -> None:
        super().__init__(stack.acknowledged, clients, count, stack.relay_key)
        self._stack = stack

    def answered(self, number: int, status: int, body: bytes) -> None:
        now = time.perf_counter()
        receipts = self._stack.note_batch(self.receipts(number, status, body), number)
        self.newest = number, receipts, now


@contextlib.asynccontextmanager
async def running_stack(
    pipeline: MeasuredPipeline, clients: Clients, partitions: int = 4
) -> AsyncIterator[RunningStack]:
    """Run all services, with the clients registered."""
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
