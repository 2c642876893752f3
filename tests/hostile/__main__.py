"""`python -m tests.hostile`: attacks a real gateway while it serves a healthy fleet.

SECONDS (10) is the duration of each attack, ATTACKS=name,name selects attacks.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.errors import WrongResultError
from tests.hostile.attacks import ATTACKS
from tests.hostile.runner import HEAD, AttackLine, AttackRunner, attacked


def tell(line: str) -> None:
    print(line, flush=True)


async def run(names: Sequence[str], seconds: float, folder: Path) -> list[AttackLine]:
    """Run the named attacks; compare the records in Kafka with the responses at the end.

    Raises:
        WrongResultError: a healthy agent was not served, or an acknowledged submission is missing.
    """
    async with attacked(folder) as (running, callbacks):
        lines = await AttackRunner(running, callbacks, seconds, tell).run(names)
        await running.acknowledged.check(running.clients)
    return lines


def main() -> int:
    """Run; the exit status is 1 if a healthy agent was not served, or a limit was exceeded."""
    names = os.environ.get("ATTACKS", "").replace(",", " ").split() or list(ATTACKS)
    if unknown := set(names) - ATTACKS.keys():
        tell(f"no such attack: {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
        return 2
    seconds = float(os.environ.get("SECONDS") or 10)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        try:
            lines = asyncio.run(run(names, seconds, Path(folder)))
        except WrongResultError as error:
            tell("\n".join([f"NOT SERVED: {error}", *getattr(error, "__notes__", [])]))
            return 1
    rows = [HEAD, tuple("---" for _ in HEAD), *(line.row() for line in lines)]
    tell("\n".join(f"| {' | '.join(row)} |" for row in rows))
    faults = [f"{line.attack}: {fault}" for line in lines for fault in line.faults]
    tell("\n".join(f"NOT BOUNDED: {fault}" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
