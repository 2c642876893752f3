"""The short form of `make soak`: it runs, all results are checked, and every process is judged."""

import re

from tests.modules import run_module
from tests.soak.flat import HEAD

SECONDS, RATE = 8, 500
PATIENCE = 220.0
PROCESSES = ("gateway", "processor", "exporter", "Kafka")


async def test_it_runs_and_judges_every_process() -> None:
    code, text = await run_module(
        "tests.soak", patience=PATIENCE, SECONDS=f"{SECONDS}", RATE=f"{RATE}"
    )
    print(text)
    assert "LOST OR WRONG" not in text
    assert re.search(r"^4,\d{3} acknowledged, shown and in the topic", text, re.MULTILINE)
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert table[0] == [*HEAD]
    assert [row[0] for row in table[2:]] == [name for name in PROCESSES for _ in range(2)]
    # A run this short is all warm-up, so the verdict may be either.
    grown = "NOT FLAT" in text
    assert code == int(grown)
    for row in table[2:]:
        assert float(row[2]) > 1
