"""`tobogganing simulate`: registers a simulated fleet and submits for it, with progress."""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from service.plural import counted
from tobogganing.api_client.session import ManagerApi
from tobogganing.api_client.target import ApiTarget
from tobogganing.backoff import stop_on_signals
from tobogganing.errors import EXIT_INTERRUPTED, LocalError, WrongSettingError
from tobogganing.output import console, write
from tobogganing.simulator.fleet_registration import FleetRegistration, FleetRegistrationError
from tobogganing.simulator.load_simulator import CONCURRENCY, LoadSimulator
from tobogganing.simulator.simulated_fleet import Agent, SimulatedFleet, simulate_fleet
from tobogganing.simulator.stats import Latencies

REDRAW, LINES = 0.5, 10.0
"""Seconds between two updates of the progress: on a terminal, elsewhere."""
GRACE = 12.0
"""Seconds for requests in flight at the end: more than a gateway takes to respond."""


@contextlib.asynccontextmanager
async def _progress(line: Callable[[float], str], stop: asyncio.Event) -> AsyncIterator[None]:
    """Show `line(seconds since the last one)` during the context, in place on a terminal.

    If it can no longer be shown, for example because `head` has ended, `stop` is set.
    """
    with contextlib.ExitStack() as stack:
        show: Callable[[str], None] = write
        pause = LINES
        if sys.stdout.isatty():
            show, pause = stack.enter_context(_live_line()), REDRAW

        async def repeat() -> None:
            since = time.monotonic()
            while True:
                await asyncio.sleep(pause)
                before, since = since, time.monotonic()
                show(line(since - before))

        task = asyncio.create_task(repeat())
        task.add_done_callback(lambda _: stop.set() if not task.cancelled() else None)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.contextmanager
def _live_line() -> Iterator[Callable[[str], None]]:
    """A line of a terminal that is replaced in place."""
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(text, refresh=True)


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
    async with _progress(lambda _: f"registered {len(agents):,} of {total:,}", stop):
        await registration.run(fleet)
    write(f"registered {len(agents):,} in {time.monotonic() - started:.1f} s")
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
    async with _progress(line, simulator.stop):
        submitting = asyncio.create_task(simulator.run(agents))
        submitting.add_done_callback(lambda _: simulator.stop.set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await simulator.stop.wait()
        simulator.stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await submitting
    write(simulator.stats.summary(time.monotonic() - started))
    return simulator.stats.is_good


def main(
    api: ApiTarget,
    clients: int,
    headends: int,
    interval: float,
    duration: float | None,
    seed: int | None,
) -> None:
    """Simulate; the exit status is 1 if a response was unexpected or a report not accepted.

    Raises:
        LocalError: there is no ADMIN_TOKEN, no entity or no gateway, or it refused the fleet.
    """
    if clients + headends == 0:
        raise WrongSettingError("nothing to simulate: set --clients or --headends")
    api.check()
    seed = random.randrange(1_000_000) if seed is None else seed
    write(
        f"simulating {counted(clients, 'client')} and {counted(headends, 'headend')}, seed {seed}"
    )
    fleet = simulate_fleet(clients, headends, seed)
    try:
        good = asyncio.run(simulate(api.url, api.token(), fleet, interval, duration))
    except FleetRegistrationError as error:
        raise LocalError(f"the fleet could not be registered: {error}") from None
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0 if good else 1)
