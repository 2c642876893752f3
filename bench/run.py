"""The subjects of a run: what is started for each, and what is measured."""

import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import end_to_end, exporter, open_loop, peers, processor, scaling
from bench.baseline import plain_function, plain_target
from bench.fleet import Clients
from bench.gateway import edge, gateway
from bench.open_loop_driver import BASELINE, SYSTEM
from bench.open_loop_peers import measure_peers
from bench.pipeline import pipeline
from bench.plans import BenchPlan
from bench.processes import cores
from bench.rounds import Measurements, run_rounds
from bench.workloads import BATCH
from tobogganing.devstack.run_config import CHECKOUT

CHECKED_GROUPS, CHECKED_PUSHES = 1_000, 100
"""A Pushgateway that compares each push with all others takes a few dozen a second."""


async def measure(plan: BenchPlan, folder: Path, subjects: Sequence[str]) -> list[Measurements]:
    """Measure these subjects.

    Raises:
        WrongResultError: something was lost, or a response or scrape is wrong.
        LocalError: Kafka or a peer could not be downloaded.
    """
    found: list[Measurements] = []
    for name in subjects:
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        found += await SUBJECTS[name](plan, folder / name)
    return found


async def _gateway(plan: BenchPlan, folder: Path) -> list[Measurements]:
    clients = Clients(plan.clients)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        ours = await enter(pipeline(folder, cores()[1]))
        first = await enter(gateway(ours, 4, plan.clients, plan.headends))
        targets = first.singles()
        if plan.more_partitions:
            second = await enter(gateway(ours, 12, plan.clients, 0))
            targets += second.singles()
        plain = await enter(plain_function(ours.folder, clients))
        targets += [plain_target(plain, clients, number, 1) for number in (32, 256)]
        targets.append(plain_target(plain, clients, 32, 1, fresh=True))
        if plan.peers:
            targets += await enter(edge(first, ours))
            unchecked = await enter(peers.pushgateway(ours.folder, checks=False))
            targets += [peers.push_target(unchecked, clients, number) for number in (32, 256)]
            if plan.checking_pushgateway:
                checked = await enter(peers.pushgateway(ours.folder, checks=True))
                few = Clients(CHECKED_GROUPS)
                await peers.fill(peers.push_target(checked, few, 32), few)
                targets.append(peers.push_target(checked, few, 32, CHECKED_PUSHES / plan.singles))
            stored = await enter(peers.victoria(ours.folder))
            targets += [peers.import_target(stored, clients, number) for number in (32, 256)]
            if (program := peers.build_collector()) is not None:
                collected = await enter(peers.collector(program, ours.folder))
                targets += [peers.otlp_target(collected, clients, number) for number in (32, 256)]
        return await run_rounds("Gateway", targets, plan.singles, plan.rounds)


async def _batches(plan: BenchPlan, folder: Path) -> list[Measurements]:
    clients = Clients(plan.clients)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        ours = await enter(pipeline(folder, cores()[1]))
        targets = [(await enter(gateway(ours, 4, plan.clients, 0))).batches()]
        plain = await enter(plain_function(ours.folder, clients))
        targets.append(plain_target(plain, clients, 4, BATCH))
        if plan.peers:
            stored = await enter(peers.victoria(ours.folder))
            targets.append(peers.import_target(stored, clients, 4, BATCH))
            if (program := peers.build_collector()) is not None:
                collected = await enter(peers.collector(program, ours.folder))
                targets.append(peers.otlp_target(collected, clients, 4, BATCH, share=0.1))
        return await run_rounds("Gateway, batches", targets, plan.batched, plan.rounds)


async def _processor(plan: BenchPlan, folder: Path) -> list[Measurements]:
    if not plan.processor:
        return []
    async with pipeline(folder) as ours:
        return [await processor.measure(ours, case) for case in plan.processor]


async def _recovery(plan: BenchPlan, folder: Path) -> list[Measurements]:
    if not plan.recovered:
        return []
    async with pipeline(folder) as ours:
        return [await processor.measure_recovery(ours, plan.recovered)]


async def _exporter(plan: BenchPlan, folder: Path) -> list[Measurements]:
    clients = Clients(plan.scraped_clients)
    async with pipeline(folder, cores()[1]) as ours:
        return await exporter.measure(
            ours, clients, plan.scraped_rows, plan.rounds, with_peers=plan.peers
        )


async def _end_to_end(plan: BenchPlan, folder: Path) -> list[Measurements]:
    clients = Clients(plan.end_to_end_clients)
    async with pipeline(folder) as ours:
        return [await end_to_end.measure(ours, clients, plan.rate, plan.seconds)]


async def _fleet(plan: BenchPlan, folder: Path) -> list[Measurements]:
    """Clients that post one by one, with this version and with one before they shared frames."""
    versions = {SYSTEM: CHECKOUT}
    if plan.baseline:
        versions[f"{SYSTEM} {BASELINE}"] = open_loop.extract(BASELINE, folder / "baseline")
    seconds, rounds = plan.fleet_seconds, plan.fleet_rounds
    found = await open_loop.measure(folder, versions, plan.fleet_loads, seconds, rounds)
    if plan.fleet_peers:
        found += await measure_peers(folder / "peers", seconds, rounds)
    return found


async def _growth(plan: BenchPlan, folder: Path) -> list[Measurements]:
    if not plan.sizes:
        return []
    async with pipeline(folder) as ours:
        return await scaling.measure(ours, plan.sizes)


Subject = Callable[[BenchPlan, Path], Awaitable[list[Measurements]]]
SUBJECTS: dict[str, Subject] = {
    "gateway": _gateway,
    "batches": _batches,
    "processor": _processor,
    "recovery": _recovery,
    "exporter": _exporter,
    "end-to-end": _end_to_end,
    "fleet": _fleet,
    "growth": _growth,
}
