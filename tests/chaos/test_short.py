"""The short form of `make test-chaos`: a few faults, once each."""

from tests.long import IS_LONG
from tests.modules import run_module

FAULTS = ["worker-kill", "leader-kill", "corrupt-frames"]
MORE_FAULTS = ["exporter-term", "cut-network+broker-freeze"]
PATIENCE = 260.0


async def test_a_few_faults_lose_nothing() -> None:
    faults = FAULTS + MORE_FAULTS * IS_LONG
    wanted = {"FAULTS": ",".join(faults), "ROUNDS": f"{len(faults)}", "STALLS": "no"}
    code, text = await run_module("tests.chaos", patience=PATIENCE, **wanted)
    print(text)
    assert code == 0


async def test_one_broker_that_loses_acknowledged_records_skips_none() -> None:
    code, text = await run_module(
        "tests.chaos", patience=150, BROKERS="1", ROUNDS="2" if IS_LONG else "1"
    )
    print(text)
    assert code == 0
