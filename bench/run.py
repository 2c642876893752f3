"""The subjects of a run, in their order: what is started for each, and what is measured of it."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import end_to_end, open_loop, scaling, scrapes
from bench.baseline import floor, floor_target
from bench.collector import build_collector, collector, otlp_target
from bench.edge import edge
from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.gateway import batches, gateway, singles
from bench.peers import fill, import_target, push_target, pushgateway, victoria
from bench.pipeline import pipeline
from bench.plans import BenchPlan
from bench.processes import cores
from bench.rounds import Measurements, run_rounds
from bench.workloads import BATCH
from tobogganing.devstack.run_config import CHECKOUT

CHECKED_GROUPS, CHECKED_PUSHES = 1_000, 100
"""A Pushgateway that checks each push against all others takes a few dozen a second."""


async def measure(plan: BenchPlan, folder: Path, subjects: Sequence[str]) -> list[Measurements]:
    """Measure what a plan asks for of these subjects.

    Raises:
        WrongResultError: something was lost, or answered or shown wrongly.
        LocalError: Kafka or a peer could not be had.
    """
    found: list[Measurements] = []
    for name in subjects:
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        found += await SUBJECTS[name](plan, folder / name)
    return found


async def _gateway(plan: BenchPlan, folder: Path) -> list[Measurements]:
    """One submission a request, beside a plain function, a Pushgateway and VictoriaMetrics."""
    clients = Clients(plan.clients)
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(pipeline(folder, cores()[1]))
        first = await stack.enter_async_context(gateway(ours, 4, plan.clients, plan.headends))
        targets = singles(first, ours)
        if plan.more_partitions:
            second = await stack.enter_async_context(gateway(ours, 12, plan.clients, 0))
            targets += singles(second, ours)
        plain = await stack.enter_async_context(floor(ours.folder, clients))
        targets += [floor_target(plain, clients, number, 1) for number in (32, 256)]
        targets.append(floor_target(plain, clients, 32, 1, fresh=True))
        if plan.peers:
            targets += await stack.enter_async_context(edge(first, ours))
            unchecked = await stack.enter_async_context(pushgateway(ours.folder, checks=False))
            targets += [push_target(unchecked, clients, number) for number in (32, 256)]
            if plan.checking_pushgateway:
                checked = await stack.enter_async_context(pushgateway(ours.folder, checks=True))
                few = Clients(CHECKED_GROUPS)
                await fill(push_target(checked, few, 32), few)
                targets.append(push_target(checked, few, 32, CHECKED_PUSHES / plan.singles))
            stored = await stack.enter_async_context(victoria(ours.folder))
            targets += [import_target(stored, clients, number) for number in (32, 256)]
            if (program := build_collector()) is not None:
                collected = await stack.enter_async_context(collector(program, ours.folder))
                targets += [otlp_target(collected, clients, number) for number in (32, 256)]
        return await run_rounds("Gateway", targets, plan.singles, plan.rounds)


async def _batches(plan: BenchPlan, folder: Path) -> list[Measurements]:
    """Batches of 500, beside VictoriaMetrics."""
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(pipeline(folder, cores()[1]))
        first = await stack.enter_async_context(gateway(ours, 4, plan.clients, 0))
        targets = batches(first, ours)
        clients = Clients(plan.clients)
        plain = await stack.enter_async_context(floor(ours.folder, clients))
        targets.append(floor_target(plain, clients, 4, BATCH))
        if plan.peers:
            stored = await stack.enter_async_context(victoria(ours.folder))
            targets.append(import_target(stored, clients, 4, BATCH))
            if (program := build_collector()) is not None:
                collected = await stack.enter_async_context(collector(program, ours.folder))
                targets.append(otlp_target(collected, clients, 4, BATCH, share=0.1))
        return await run_rounds("Gateway, batches", targets, plan.batched, plan.rounds)


async def _scrapes(plan: BenchPlan, folder: Path) -> list[Measurements]:
    """A scrape of everything, beside a Pushgateway and VictoriaMetrics."""
    clients = Clients(plan.scraped_clients)
    async with pipeline(folder, cores()[1]) as ours:
        return await scrapes.measure(ours, clients, plan.rounds, peers=plan.peers)


async def _processor(plan: BenchPlan, _: Path) -> list[Measurements]:
    found = []
    for arguments in plan.processor:
        told = await _run("bench.processor", arguments)
        workers = told["workers"]
        case = (
            f"{workers} worker{'s' if workers > 1 else ''}, frames of {told['frame']}, "
            f"{told['entities']:,} entities"
        )
        figures = Measurements("Processor", "Tobogganing processor", case)
        figures.add(
            **{
                "cpu processor": told["cpu_us_per_submission"],
                "per second": told["submissions_per_second"],
                "MiB": max(told["resident_mib"]),
                "submissions": told["submissions"],
            }
        )
        found.append(figures)
    return found


async def _recovery(plan: BenchPlan, _: Path) -> list[Measurements]:
    if not plan.recovered:
        return []
    told = await _run("bench.recovery", [f"--rows={plan.recovered}"])
    figures = Measurements("Recovery", "Tobogganing processor", f"killed, {plan.recovered:,} rows")
    figures.add(**told)
    return [figures]


async def _exporter(plan: BenchPlan, _: Path) -> list[Measurements]:
    found = []
    for arguments in plan.exporter:
        clients = int(arguments[0].partition("=")[2])
        for name, told in (await _run("bench.exporter", arguments)).items():
            case = "the store" if name == "store" else f"shard {name}"
            case = f"{case} of {clients:,} clients"
            figures = Measurements("Exporter", "Tobogganing exporter", case)
            figures.add(**told)
            found.append(figures)
    return found


async def _end_to_end(plan: BenchPlan, folder: Path) -> list[Measurements]:
    clients = Clients(plan.end_to_end_clients)
    async with pipeline(folder) as ours:
        return [await end_to_end.measure(ours, clients, plan.rate, plan.seconds)]


async def _fleet(plan: BenchPlan, folder: Path) -> list[Measurements]:
    """Clients that post one by one, with this version and with one before they shared frames."""
    loads = [load for load in open_loop.LOADS if load.rate in plan.fleet_rates]
    versions = {"Tobogganing": CHECKOUT}
    if plan.baseline:
        versions[f"Tobogganing {open_loop.BASELINE}"] = open_loop.extract(
            open_loop.BASELINE, folder / "baseline"
        )
    return await open_loop.measure(folder, versions, loads, plan.fleet_seconds, plan.fleet_rounds)


async def _growth(plan: BenchPlan, folder: Path) -> list[Measurements]:
    if not plan.sizes:
        return []
    async with pipeline(folder) as ours:
        return await scaling.measure(ours, list(plan.sizes))


async def _run(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a benchmark of its own prints.

    Raises:
        WrongResultError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        told = errors.decode(errors="replace")[-3000:]
        raise WrongResultError(f"{module} ended with {process.returncode}: {told}")
    return msgspec.json.decode(output, type=dict[str, Any])


Subject = Callable[[BenchPlan, Path], Awaitable[list[Measurements]]]
SUBJECTS: dict[str, Subject] = {
    "gateway": _gateway,
    "batches": _batches,
    "scrapes": _scrapes,
    "processor": _processor,
    "recovery": _recovery,
    "exporter": _exporter,
    "end-to-end": _end_to_end,
    "fleet": _fleet,
    "growth": _growth,
}
