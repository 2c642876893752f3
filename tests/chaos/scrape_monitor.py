"""Scrapes every exporter continuously, and checks each scrape with the model."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode

import aiohttp

from contract.position import Receipt
from service.kafka.reader import TopicOffsets
from service.kafka.topics import topics_from
from tests.chaos.fleet_totals import FleetTotals, Totals, differences, parse_totals
from tests.chaos.installation import METRICS_TOKEN, PARTITIONS, ChaosService, Installation
from tests.chaos.load import ChaosLoad
from tests.chaos.model import PipelineModel
from tests.chaos.scrape import Scrape, parse

INTERVAL = 0.4
WITH_RECEIPT = 0.25
"""Fraction of scrapes that wait for a submission acknowledged just before."""
SCRAPE_TIMEOUT = 5.0
"""Seconds in which a scrape must get a response, whatever else is down."""
AFTER_TIMEOUT = 15.0
PATIENCE = 90.0


class ScrapeMonitor:
    """Scrapes; `wrong` has the findings."""

    def __init__(
        self,
        installation: Installation,
        model: PipelineModel,
        load: ChaosLoad,
        rng: random.Random,
    ) -> None:
        self.wrong: list[str] = []
        self.scrapes = 0
        self.longest_stall = 0.0
        """Longest time since `begin` in which a partition's ledger made no progress in any
        exporter."""
        self.longest_stuck = 0.0
        """The part of the longest such time after the end of the fault."""
        self._over_at: float | None = None
        self._installation = installation
        self._model = model
        self._load = load
        self._rng = rng
        self._served: dict[str, int] = {}
        """The process incarnation in which each exporter has responded to a scrape."""
        self._moved: dict[int, tuple[int, float]] = {}
        self._measures = False
        self._totals = FleetTotals()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
        async with aiohttp.ClientSession(headers=headers) as self._http:
            tasks = [
                asyncio.create_task(self._watch(each), name=f"watch {each.member.name}")
                for each in self._installation.exporters
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(result, Exception):
                        self.wrong.append(f"the scrape monitor failed: {result!r}")

    def begin(self) -> None:
        """Measure stalls from now on."""
        now = time.monotonic()
        self._moved = {p: (read, now) for p, (read, _) in self._moved.items()}
        self.longest_stall = self.longest_stuck = 0.0
        self._over_at = None
        self._measures = True

    def fault_is_over(self) -> None:
        """Measure from now on how long each partition takes to advance."""
        self._over_at = time.monotonic()

    def end(self) -> None:
        """Stop measuring stalls, because the load pauses."""
        self._note_stalls({})
        self._measures = False

    async def drained(self) -> dict[str, Scrape]:
        """Wait until every exporter shows everything that is in Kafka; return these scrapes.

        Raises:
            TimeoutError: it took too long.
        """
        settings = self._installation.settings
        topic = topics_from(settings).submissions.name
        async with TopicOffsets(settings, topic, range(PARTITIONS)) as ends:
            last = {p: end - 1 for p, end in (await ends.end_offsets()).items() if end}
        receipts = [Receipt(partition, offset, 0) for partition, offset in last.items()]
        scrapes = {}
        async with asyncio.timeout(PATIENCE):
            for exporter in self._installation.exporters:
                scrapes[exporter.member.name] = parse(await self._behind(exporter, receipts))
        return scrapes

    async def _behind(self, exporter: ChaosService, receipts: list[Receipt]) -> str:
        while True:
            text = await self._scrape(exporter, receipts)
            if text is not None:
                return text
            await asyncio.sleep(INTERVAL)

    async def _watch(self, exporter: ChaosService) -> None:
        member = exporter.member
        while True:
            life, wanted = member.starts, member.is_wanted
            began = time.monotonic()
            covered: Mapping[str, int] = {}
            receipts: list[Receipt] = []
            if self._load.recent and self._rng.random() < WITH_RECEIPT:
                key, number, receipt = self._rng.choice(self._load.recent)
                covered, receipts = {key: number}, [receipt]
            text = await self._scrape(exporter, receipts)
            same = wanted and member.is_wanted and life == member.starts
            if text is not None:
                self._served[member.name] = life
                self._look(exporter, parse(text), covered)
            elif same and not receipts and self._served.get(member.name) == life:
                seconds = time.monotonic() - began
                self.wrong.append(f"{member.name} did not respond to a scrape ({seconds:.1f} s)")
            least = self._totals.begin()
            fleet = await self._get(exporter, "/metrics/fleet", SCRAPE_TIMEOUT)
            if fleet is not None:
                self.wrong += self._totals.see(member.name, least, fleet)
            await asyncio.sleep(INTERVAL)

    async def compare_totals(self, expected: Totals) -> list[str]:
        """Compare the totals of every exporter, after everything was drained, with a recount.

        Raises:
            TimeoutError: it took too long.
        """
        wrong = [] if any(expected.values()) else ["no total has grown"]
        async with asyncio.timeout(PATIENCE):
            for exporter in self._installation.exporters:
                text = None
                while text is None:
                    text = await self._get(exporter, "/metrics/fleet", SCRAPE_TIMEOUT)
                wrong += differences(exporter.member.name, parse_totals(text), expected)
        return wrong

    async def _scrape(self, exporter: ChaosService, receipts: list[Receipt]) -> str | None:
        """Scrape `/metrics` with these receipts; None if there is no response."""
        query = urlencode([("after", str(receipt)) for receipt in receipts])
        return await self._get(
            exporter, f"/metrics?{query}", AFTER_TIMEOUT if receipts else SCRAPE_TIMEOUT
        )

    async def _get(self, exporter: ChaosService, path: str, seconds: float) -> str | None:
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._http.get(exporter.url + path, timeout=timeout) as answer:
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def _look(self, exporter: ChaosService, scrape: Scrape, covered: Mapping[str, int]) -> None:
        self.scrapes += 1
        self.wrong += self._model.see(exporter.member.name, scrape, covered=covered)
        self._note_stalls({p: ledger.read for p, ledger in scrape.ledgers.items()})

    def _note_stalls(self, read: Mapping[int, int]) -> None:
        now = time.monotonic()
        for partition in self._moved.keys() | read.keys():
            before, at = self._moved.get(partition, (0, now))
            if self._measures and now - at > self.longest_stall:
                self.longest_stall, self.stalled = now - at, partition
            if self._measures and self._over_at is not None:
                self.longest_stuck = max(self.longest_stuck, now - max(at, self._over_at))
            if read.get(partition, 0) > before:
                self._moved[partition] = (read[partition], now)
