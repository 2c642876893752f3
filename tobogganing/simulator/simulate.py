"""`tobogganing simulate`: registers a simulated fleet and submits for it, with progress."""

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping

import click

from tobogganing.api_client.session import ManagerApi
from tobogganing.api_client.tokens import read_token
from tobogganing.backoff import stop_on_signals
from tobogganing.errors import LocalError, WrongSettingError
from tobogganing.simulator.fleet_registration import FleetRegistration, FleetRegistrationError
from tobogganing.simulator.load_simulator import CONCURRENCY, LoadSimulator
from tobogganing.simulator.simulated_fleet import Agent, SimulatedFleet, simulate_fleet
from tobogganing.simulator.stats import Latencies

REDRAW, LINES = 0.5, 10.0
"""Seconds between two updates of the progress: on a terminal, elsewhere."""
GRACE = 12.0
"""Seconds for requests in flight at the end: more than a gateway takes to respond."""


@contextlib.asynccontextmanager
async def _progress(line: Callable[[float], str]) -> AsyncIterator[None]:
    """Show `line(seconds since the last one)` during the context, in place on a terminal."""
    is_terminal = sys.stdout.isatty()
    start, end = ("\r\x1b[K", "") if is_terminal else ("", "\n")

    async def show() -> None:
        while True:
            since = time.monotonic()
            await asyncio.sleep(REDRAW if is_terminal else LINES)
            click.echo(f"{start}{line(time.monotonic() - since)}{end}", nl=False)

    task = asyncio.create_task(show())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        click.echo(start, nl=False)


async def simulate(
    url: str,
    admin_token: str,
    fleet: SimulatedFleet,
    interval: float,
    duration: float | None,
) -> bool:
    """Register a fleet and submit until a signal or `duration`; return whether all was accepted.

    Raises:
        FleetRegistrationError: the gateway refused the fleet.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    registration = FleetRegistration(url, admin_token, stop)
    agents, total = registration.api_keys, len(fleet.clients) + len(fleet.headends)
    started = time.monotonic()
    async with _progress(lambda _: f"registered {len(agents):,} of {total:,}"):
        await registration.run(fleet)
    click.echo(f"registered {len(agents):,} in {time.monotonic() - started:.1f} s")
    async with ManagerApi(url, CONCURRENCY) as api:
        return await _submit(LoadSimulator(api, interval, stop), agents, duration)


async def _submit(
    simulator: LoadSimulator, agents: Mapping[Agent, str], duration: float | None
) -> bool:
    accepted = 0

    def line(seconds: float) -> str:
        nonlocal accepted
        text = simulator.stats.line(accepted, seconds, simulator.recent)
        accepted, simulator.recent = simulator.stats.accepted, Latencies()
        return text

    started = time.monotonic()
    async with _progress(line):
        submitting = asyncio.create_task(simulator.run(agents))
        submitting.add_done_callback(lambda _: simulator.stop.set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await simulator.stop.wait()
        simulator.stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await submitting
    click.echo(simulator.stats.summary(time.monotonic() - started))
    return simulator.stats.is_good


def main(
    url: str,
    clients: int,
    headends: int,
    interval: float,
    duration: float | None,
    seed: int | None,
    admin_token_file: str | None,
) -> None:
    """Simulate; the exit status is 1 if a response was unexpected or a report not accepted.

    Raises:
        LocalError: there is no ADMIN_TOKEN, no entity, or the gateway refused the fleet.
    """
    try:
        admin_token = read_token("ADMIN_TOKEN", admin_token_file, os.environ)
    except LocalError as error:
        raise WrongSettingError(str(error)) from None
    if clients + headends == 0:
        raise WrongSettingError("nothing to simulate: set --clients or --headends")
    seed = random.randrange(1_000_000) if seed is None else seed
    click.echo(f"simulating {clients:,} clients and {headends:,} headends, seed {seed}")
    fleet = simulate_fleet(clients, headends, seed)
    try:
        good = asyncio.run(simulate(url, admin_token, fleet, interval, duration))
    except FleetRegistrationError as error:
        raise LocalError(f"the fleet could not be registered: {error}") from None
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if good else 1)
