"""`python -m tests.fuzz`: fuzzes every target for a while; see docs/guarantees.md.

SECONDS (60) is the time of each target, TARGETS=name,name selects targets, SEED repeats a run;
`api` tests both services' APIs with schemathesis. INPUT=file TARGETS=name repeats an input that a
fuzzer has found, and shows where it fails.
"""

import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import api
from tests.fuzz.targets import TARGETS
from tobogganing.devstack.run_config import CHECKOUT

API = "api"
HEAD = ("target", "seconds", "inputs", "coverage (edges)", "peak memory", "found")
PATIENCE = 120.0
"""Seconds that a fuzzer may take to start and to run its seeds."""
_STATISTICS = {
    "inputs": re.compile(r"stat::number_of_executed_units: *(\d+)"),
    "memory": re.compile(r"stat::peak_rss_mb: *(\d+)"),
    "coverage": re.compile(r"\bcov: (\d+)"),
}


class FuzzResult(NamedTuple):
    """The result of a target."""

    target: str
    seconds: int
    inputs: int
    coverage: int
    megabytes: int
    is_good: bool

    def row(self) -> tuple[str, ...]:
        found = "nothing" if self.is_good else "A FAULT"
        return (
            self.target,
            f"{self.seconds}",
            f"{self.inputs:,}",
            f"{self.coverage:,}",
            f"{self.megabytes} MB",
            found,
        )


def parse(target: str, seconds: int, log: str, code: int) -> FuzzResult:
    """Parse a fuzzer's output; without statistics it has failed."""
    figures = {name: pattern.findall(log) for name, pattern in _STATISTICS.items()}
    last = {name: int(found[-1]) if found else 0 for name, found in figures.items()}
    is_good = code == 0 and all(last.values())
    return FuzzResult(target, seconds, last["inputs"], last["coverage"], last["memory"], is_good)


def fuzz(target: str, seconds: int, seed: int, folder: Path) -> FuzzResult:
    """Run the fuzzer of a target."""
    folder.mkdir()
    arguments = (target, str(seconds), str(seed), str(folder))
    with (folder / "log").open("wb") as output:
        code = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.fuzzer", *arguments],
            cwd=CHECKOUT,
            stdout=output,
            stderr=output,
            timeout=seconds + PATIENCE,
            check=False,
        ).returncode
    log = (folder / "log").read_text(errors="replace")
    result = parse(target, seconds, log, code)
    if not result.is_good:
        tell(f"{target} ended with {code}, and its log with:\n{log[-6000:]}")
        for found in sorted([*folder.glob("crash-*"), *folder.glob("timeout-*")]):
            tell(f"Again: make test-fuzz TARGETS={target} INPUT={found}")
    return result


def fuzz_all(targets: list[str], seconds: int, seed: int, folder: Path) -> list[FuzzResult]:
    """Run one fuzzer per processor at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [*pool.map(lambda name: fuzz(name, seconds, seed, folder / name), targets)]


def tell(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Run; the exit status is 1 if anything was found."""
    names = os.environ.get("TARGETS", "").replace(",", " ").split() or [*TARGETS, API]
    if unknown := set(names) - {*TARGETS, API}:
        tell(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}, api")
        return 2
    if found := os.environ.get("INPUT"):
        for name in names:
            TARGETS[name](Path(found).read_bytes())
        return 0
    seconds = int(os.environ.get("SECONDS") or 60)
    seed = int(os.environ.get("SEED") or random.randrange(1, 2**31))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    tell(f"{folder} SEED={seed} SECONDS={seconds} TARGETS={','.join(names)}")
    fuzzed = [name for name in names if name != API]
    results = fuzz_all(fuzzed, seconds, seed, folder)
    rows = [HEAD, tuple("---" for _ in HEAD), *(result.row() for result in results)]
    tell("\n".join(f"| {' | '.join(row)} |" for row in rows))
    is_good = API not in names or asyncio.run(api.run(seconds, seed, folder))
    if not (is_good and all(result.is_good for result in results)):
        tell(f"What was found, and the logs, are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
