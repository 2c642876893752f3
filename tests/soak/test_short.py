"""The short form of `make soak`: it runs, all is checked, and every process is judged."""

import asyncio
import os
import re
import sys

from tests.soak.flat import HEAD
from tobogganing.local.place import CHECKOUT

SECONDS = 8
PATIENCE = 220.0
PROCESSES = ("gateway", "processor", "exporter", "Kafka")


async def test_it_runs_and_judges_every_process() -> None:
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak"),
        cwd=CHECKOUT,
        env=os.environ | {"SECONDS": str(SECONDS), "RATE": "1000"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, _ = await run.communicate()
    finally:
        if run.returncode is None:
            run.kill()
            await run.wait()
    text = output.decode()
    print(text)
    assert "LOST OR WRONG" not in text
    assert re.search(r"^8,\d{3} answered, shown and in the topic", text, re.MULTILINE)
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert table[0] == [*HEAD]
    assert [row[0] for row in table[2:]] == [name for name in PROCESSES for _ in range(2)]
    # So short a run is all warm-up: what it says of growth is right, whatever that is.
    grown = "NOT FLAT" in text
    assert run.returncode == int(grown)
    for row in table[2:]:
        assert float(row[2]) > 1
