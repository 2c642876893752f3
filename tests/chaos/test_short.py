"""The short form of `make test-chaos`: a few faults, once each."""

from tests.long import IS_LONG
from tests.modules import run_module

FAULTS = ["worker-and-leader-kill", "corrupt-frames"]
LONG_FAULTS = ["worker-kill", "leader-kill", "corrupt-frames", "exporter-term"]
LONG_FAULTS += ["cut-network+broker-freeze"]
PATIENCE = 260.0


async def test_a_few_faults_lose_nothing() -> None:
    faults = LONG_FAULTS if IS_LONG else FAULTS
    wanted = {"FAULTS": ",".join(faults), "ROUNDS": f"{len(faults)}", "STALLS": "no"}
    if not IS_LONG:
        wanted["RATE"] = "60"
    code, text = await run_module("tests.chaos", patience=PATIENCE, **wanted)
    print(text)
    assert code == 0


async def test_one_broker_that_loses_acknowledged_records_skips_none() -> None:
    code, text = await run_module(
        "tests.chaos", patience=150, BROKERS="1", ROUNDS="2" if IS_LONG else "1"
    )
    print(text)
    assert code == 0
