"""The short form of `make test-chaos`: a few faults, once each."""

from tests.modules import run_module

FAULTS = (
    "worker-kill",
    "exporter-term",
    "leader-kill",
    "corrupt-frames",
    "cut-network+broker-freeze",
)
PATIENCE = 260.0


async def test_a_few_faults_lose_nothing() -> None:
    wanted = {"FAULTS": ",".join(FAULTS), "ROUNDS": f"{len(FAULTS)}", "STALLS": "no"}
    code, text = await run_module("tests.chaos", patience=PATIENCE, **wanted)
    print(text)
    assert code == 0


async def test_one_broker_that_loses_acknowledged_records_skips_none() -> None:
    code, text = await run_module("tests.chaos", patience=150, BROKERS="1", ROUNDS="2")
    print(text)
    assert code == 0
