"""`tobogganing simulate`: plays a fleet against a gateway and says what was accepted."""

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, TextIO

from tobogganing.api_client.session import ManagerApi
from tobogganing.api_client.tokens import read_admin_token
from tobogganing.backoff import stop_on_signals
from tobogganing.errors import LocalError
from tobogganing.simulator.fleet_registration import FleetRegistration, FleetRegistrationError
from tobogganing.simulator.load_simulator import AT_ONCE, LoadSimulator
from tobogganing.simulator.simulated_fleet import Agent, SimulatedFleet, simulate_fleet
from tobogganing.simulator.stats import Latencies

REDRAW, LINES = 0.5, 10.0
"""Seconds between two updates of progress: on a terminal, elsewhere."""
GRACE = 12.0
"""Seconds that requests in flight get at the end: more than a gateway takes to answer."""


class ProgressLine:
    """Progress: one line that is redrawn on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self.interval = REDRAW if self._live else LINES

    def progress(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()

    def line(self, text: str) -> None:
        """Write something that stays."""
        self._stream.write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")
        self._stream.flush()


class Simulation:
    """One run: enrolment, then playing, with progress on the screen all the time."""

    def __init__(
        self, api: ManagerApi, admin_token: str, interval: float, progress_line: ProgressLine
    ) -> None:
        self.stop = asyncio.Event()
        self._registration = FleetRegistration(api, admin_token, self.stop)
        self._simulator = LoadSimulator(api, interval, self.stop)
        self._progress_line = progress_line

    async def run(self, fleet: SimulatedFleet, duration: float | None) -> bool:
        """Play for `duration` seconds, or until `stop`; tell whether all was as it should be.

        Raises:
            EnrolmentError: the gateway did not take the fleet.
        """
        started = time.monotonic()
        async with shown(self._show_enrolment(len(fleet.clients) + len(fleet.headends))):
            await self._registration.run(fleet)
        agents = self._registration.api_keys
        self._progress_line.line(
            f"registered {len(agents):,} in {time.monotonic() - started:.1f} s"
        )
        started = time.monotonic()
        async with shown(self._show_reports()):
            await self._play(agents, duration)
        self._progress_line.line(self._simulator.stats.summary(time.monotonic() - started))
        return self._simulator.stats.is_good

    async def _play(self, agents: Mapping[Agent, str], duration: float | None) -> None:
        playing = asyncio.create_task(self._simulator.run(agents))
        playing.add_done_callback(lambda _: self.stop.set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await self.stop.wait()
        self.stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await playing

    async def _show_enrolment(self, total: int) -> None:
        while True:
            await asyncio.sleep(self._progress_line.interval)
            self._progress_line.progress(
                f"registered {len(self._registration.api_keys):,} of {total:,}"
            )

    async def _show_reports(self) -> None:
        simulator = self._simulator
        while True:
            before, since = simulator.stats.accepted, time.monotonic()
            simulator.recent = Latencies()
            await asyncio.sleep(self._progress_line.interval)
            line = simulator.stats.line(before, time.monotonic() - since, simulator.recent)
            self._progress_line.progress(line)


@contextlib.asynccontextmanager
async def shown(progress: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Show progress for as long as the context lasts."""
    task = asyncio.create_task(progress)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def simulate(
    url: str,
    admin_token: str,
    fleet: SimulatedFleet,
    interval: float,
    duration: float | None,
    progress_line: ProgressLine,
) -> bool:
    """Play a fleet; tell whether all was as it should be."""
    async with ManagerApi(url, AT_ONCE) as api:
        simulation = Simulation(api, admin_token, interval, progress_line)
        stop_on_signals(simulation.stop)
        return await simulation.run(fleet, duration)


def main(
    *,
    url: str,
    clients: int,
    headends: int,
    interval: float,
    duration: float | None,
    seed: int | None,
    admin_token_file: str | None,
) -> None:
    """Simulate; the exit status is 1 if anything was not answered or accepted as it should be."""
    try:
        admin_token = read_admin_token(admin_token_file, os.environ)
        if clients + headends == 0:
            raise LocalError("there is nothing to simulate: ask for --clients or --headends")
    except LocalError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    seed = random.randrange(1_000_000) if seed is None else seed
    progress_line = ProgressLine(sys.stdout)
    progress_line.line(f"simulating {clients:,} clients and {headends:,} headends, seed {seed}")
    fleet = simulate_fleet(clients, headends, seed)
    try:
        good = asyncio.run(simulate(url, admin_token, fleet, interval, duration, progress_line))
    except FleetRegistrationError as error:
        print(f"the fleet could not be registered: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if good else 1)
