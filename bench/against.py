"""`python -m bench.against COMMIT`: closed loops in turns with another commit.

Batches, single submissions, the processor and scrapes: what a design for lone submissions must not
make worse. Prints the medians and the median of the ratios by round.
"""

import contextlib
import logging
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import structlog
import uvloop

from bench import processor
from bench.exporter import scrapes
from bench.fleet import Clients, Fleet
from bench.gateway import gateway
from bench.open_loop import extract
from bench.pipeline import MeasuredPipeline, pipeline
from bench.processor import ProcessorCase
from bench.rounds import MeasuredTarget, ratio, run_rounds
from bench.workloads import Acknowledged
from tobogganing.devstack.run_config import CHECKOUT

CLIENTS = 2_000
SUBMISSIONS = 12_000
BATCH_SHARE = 10.0
"""Submissions in batches to those that are sent one by one."""
FRAMES = ProcessorCase(workers=1, frame=50, entities=50_000, submissions=150_000)
SCRAPED = 100_000


class _Unchecked(Acknowledged):
    """Receipts of another commit, whose form may differ; each response is still checked."""

    async def check(self, fleet: Fleet) -> None:
        self.numbers.clear()


async def compare_gateways(
    ours: MeasuredPipeline, versions: dict[str, Path], rounds: int
) -> dict[str, list[list[float]]]:
    """Return the gateways' CPU time a submission by case, version and round."""
    targets: dict[str, list[MeasuredTarget]] = {}
    async with contextlib.AsyncExitStack() as stack:
        for checkout in versions.values():
            measured = await stack.enter_async_context(
                gateway(ours, 4, CLIENTS, 0, PYTHONPATH=str(checkout))
            )
            if checkout != CHECKOUT:
                measured = replace(measured, acknowledged=_Unchecked(measured.kafka))
            singles = measured.singles()
            batches = replace(measured.batches(), share=BATCH_SHARE)
            for target in (*singles, batches):
                targets.setdefault(target.case, []).append(target)
        in_turns = [target for each in targets.values() for target in each]
        found = await run_rounds("Against", in_turns, SUBMISSIONS, rounds)
    by_case: dict[str, list[list[float]]] = {}
    for each in found:
        by_case.setdefault(f"gateway, {each.case}", []).append(each.figures["cpu gateway"])
    return by_case


async def compare_processors(
    ours: MeasuredPipeline, versions: dict[str, Path], rounds: int
) -> list[list[float]]:
    """Return the processors' CPU time a submission by version and round."""
    found: list[list[float]] = [[] for _ in versions]
    for _ in range(rounds):
        for values, checkout in zip(found, versions.values(), strict=True):
            # Ledgers of earlier versions have fewer counts.
            figures = await processor.measure(ours, FRAMES, checkout, {})
            values += figures.figures["cpu processor"]
    return found


async def compare(commit: str, rounds: int) -> dict[str, list[list[float]]]:
    """Return figures by case, version (the other one first) and round."""
    with tempfile.TemporaryDirectory(prefix="bench-against-") as name:
        folder = Path(name)
        versions = {commit: extract(commit, folder / "against"), "this": CHECKOUT}
        async with pipeline(folder / "run") as ours:
            found = await compare_gateways(ours, versions, rounds)
            found["processor, frames of 50"] = await compare_processors(ours, versions, rounds)
            found[f"scrape of {SCRAPED:,} clients, gzip"] = await scrapes(
                ours, versions.values(), Clients(SCRAPED), rounds
            )
    return found


def report(found: dict[str, list[list[float]]]) -> Sequence[str]:
    lines = []
    for case, (there, here) in found.items():
        medians = f"{statistics.median(there):.4g} there, {statistics.median(here):.4g} here"
        lines.append(f"{case}: {medians}, {ratio(here, there):.3f} times")
    return lines


@click.command()
@click.argument("commit")
@click.option("--rounds", default=9, show_default=True)
def main(commit: str, rounds: int) -> None:
    """Compare closed loops of this checkout with those of COMMIT."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for line in report(uvloop.run(compare(commit, rounds))):
        print(line)


if __name__ == "__main__":
    main()
