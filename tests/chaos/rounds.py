"""Rounds: load, one fault, recovery, and an exact comparison."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.chaos.audit import Recount, audit
from tests.chaos.context import ChaosContext, NotHereError
from tests.chaos.faults import named
from tests.chaos.fleet import Fleet
from tests.chaos.fleet_totals import recounted
from tests.chaos.installation import PARTITIONS, Installation
from tests.chaos.load import ChaosLoad
from tests.chaos.model import PipelineModel, Verdict
from tests.chaos.scrape_monitor import ScrapeMonitor
from tobogganing.errors import LocalError

STALLS = {"worker-rolling": 10.0, "service-rolling": 10.0, "worker-kill": 12.0}
"""Seconds that a partition's ledger may make no progress under some faults."""
SETTLING = 200
"""Submissions that must be acknowledged after a fault is over."""
SETTLING_TIMEOUT = 90.0
STUCK = 45.0
"""Seconds after the end of the last fault in which the ledger of every partition must advance."""


@dataclass
class RoundLine:
    """The results of the rounds of one fault; times are in seconds."""

    fault: str
    rounds: int = 0
    submissions: int = 0
    acknowledged: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    answer_stall: float = 0.0
    scrape_stall: float = 0.0
    stuck: float = 0.0
    """Longest time after the end of the fault without progress of a partition's ledger."""
    exits: int = 0
    seconds: float = 0.0
    refused: str = ""
    """Why the fault could not be caused on this machine."""

    @property
    def longest_allowed(self) -> float:
        """Return the seconds that a partition's ledger may make no progress."""
        return STALLS.get(self.fault, float("inf"))


Tell = Callable[[str], None]


class Rounds:
    """Runs `rounds` rounds of these faults in turn, on one installation in `folder`."""

    def __init__(
        self, folder: Path, names: Sequence[str], rounds: int, seed: int, tell: Tell
    ) -> None:
        self.lines = {name: RoundLine(name) for name in names}
        self._rounds = rounds
        self._tell = tell
        self._rng = random.Random(seed)
        self._installation = Installation(folder)
        self._model = PipelineModel(PARTITIONS)
        self._exits = 0
        self.audit = Verdict()
        """The result of the recount at the end."""

    async def run(self) -> list[RoundLine]:
        """Run all rounds.

        Raises:
            LocalError: the installation did not start.
        """
        installation = self._installation
        async with installation.running(), aiohttp.ClientSession() as http:
            fleet = Fleet(http)
            await fleet.enrol(installation.gateways[0].url)
            load = ChaosLoad(
                fleet,
                self._model,
                lambda: [gateway.url for gateway in installation.gateways],
                random.Random(self._rng.random()),
                edge=installation.edge.url,
            )
            monitor = ScrapeMonitor(
                installation, self._model, load, random.Random(self._rng.random())
            )
            recount = Recount(installation.settings, load.answered)
            context = ChaosContext(installation, fleet, load, self._model, self._rng, recount)
            async with load.running(), monitor.running():
                load.begin()
                await load.acknowledges(SETTLING)
                for line in self._order():
                    await self._round(line, context, monitor)
            self.audit = await audit(installation.settings, recount, load.answered)
        return [*self.lines.values()]

    def _order(self) -> list[RoundLine]:
        """Return the order of faults: each once, in random order, before any repeats."""
        turns: list[RoundLine] = []
        while len(turns) < self._rounds:
            turns += self._rng.sample([*self.lines.values()], len(self.lines))
        return turns[: self._rounds]

    async def _round(self, line: RoundLine, context: ChaosContext, monitor: ScrapeMonitor) -> None:
        load = context.load
        began, before = time.monotonic(), (load.submissions, load.acknowledged)
        load.begin()
        monitor.begin()
        verdict = Verdict()
        try:
            await asyncio.sleep(self._rng.uniform(0.3, 1.5))
            context.installation.tell(f"fault: {line.fault}")
            context.turn = line.rounds
            await named(line.fault)(context)
            monitor.fault_is_over()
            await context.installation.wait_until_ready()
            async with asyncio.timeout(SETTLING_TIMEOUT):
                await load.acknowledges(SETTLING)
        except NotHereError as error:
            line.refused = str(error)
        except (LocalError, TimeoutError, AssertionError) as error:
            verdict.wrong.append(f"{error!r}")
        context.installation.tell("ready again")
        monitor.end()
        await load.pause()
        paused = time.monotonic()
        try:
            verdict += self._model.compare(await monitor.drained())
            await context.recount.read()
            totals = recounted(context.recount.states.values())
            verdict.wrong += await monitor.compare_totals(totals)
        except TimeoutError:
            verdict.lost.append(
                "acknowledged submissions are not shown: the pipeline makes no progress"
            )
        stuck = max(monitor.longest_stuck, time.monotonic() - paused)
        if stuck > STUCK:
            verdict.wrong.append(f"a partition was stuck for {stuck:.0f} s after the fault")
        line.stuck = max(line.stuck, stuck)
        verdict.wrong += [*load.wrong, *monitor.wrong]
        load.wrong, monitor.wrong = [], []
        self._count_exits(line, verdict)
        line.rounds += 1
        line.seconds += time.monotonic() - began
        line.submissions += load.submissions - before[0]
        line.acknowledged += load.acknowledged - before[1]
        line.answer_stall = max(line.answer_stall, load.longest_stall)
        line.scrape_stall = max(line.scrape_stall, monitor.longest_stall)
        line.verdict += verdict
        self._describe(line, verdict, load, monitor)

    def _count_exits(self, line: RoundLine, verdict: Verdict) -> None:
        """Count unexpected ends; only workers and brokers may end themselves."""
        exits = self._installation.exits()[self._exits :]
        self._exits += len(exits)
        line.exits += len(exits)
        for each in exits:
            if not each.member.startswith(("processor", "broker")):
                verdict.wrong.append(f"{each.member} ended by itself: {each.how}")

    def _describe(
        self, line: RoundLine, verdict: Verdict, load: ChaosLoad, monitor: ScrapeMonitor
    ) -> None:
        self._tell(
            f"{line.fault} {line.rounds}: {line.submissions:,} sent, "
            f"{line.acknowledged:,} acknowledged, lost {len(verdict.lost)}, "
            f"wrong {len(verdict.wrong)}, longest stall {load.longest_stall:.1f} s (responses), "
            f"{monitor.longest_stall:.1f} s (scrapes), {line.stuck:.1f} s after the fault, "
            f"{line.seconds:.0f} s in all; "
            f"slowest response {load.slowest:.1f} s, {dict(load.statuses)}"
        )
        for what in [*verdict.lost, *verdict.wrong][:10]:
            self._tell(f"    {what}")
