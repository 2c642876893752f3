"""A power cut of a local run under load: no submission with a 200 is lost."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.local_run import LocalRun, processes, wait_for
from tests.e2e.test_restart import RestartFleet, http
from tests.long import IS_LONG
from tests.unsynced import SyncedJava
from tobogganing.devstack.install import Install

__all__ = ["http"]

CUTS = 2 if IS_LONG else 1


@pytest.fixture
def java(tmp_path: Path, kafka_install: Install) -> Iterator[SyncedJava]:
    (tmp_path / "java").mkdir()
    java = SyncedJava.make(tmp_path / "java")
    with java.with_classes_of(kafka_install):
        yield java


async def test_a_local_run_survives_power_cuts(
    tmp_path: Path, http: aiohttp.ClientSession, java: SyncedJava
) -> None:
    environ = {"JAVA_HOME": str(java.home)}
    state = tmp_path / "state"
    data = state / "kafka" / "node-1" / "data"
    fleet: RestartFleet | None = None
    for _ in range(CUTS):
        with LocalRun(state, environ=environ) as run:
            run.until_ready()
            if fleet is None:
                fleet = RestartFleet(run)
                await fleet.register(http)
            fleet.run = run
            async with fleet.posting(http):
                await fleet.some_acknowledged(random.randint(40, 200))
                cut_power(run)
        cut = java.drop_unsynced(data)
        assert any(name.startswith("tobogganing.entity-state-") for name in cut), "not flushed"
    assert fleet is not None
    with LocalRun(state, environ=environ) as run:
        run.until_ready()
        fleet.run = run
        shown = await fleet.shown(http)
        for client in fleet.clients:
            assert await became_of(run, http, client.receipt) == ("processed", "applied")
        assert "a new history begins" not in run.output
        assert "the changelog lost its end" not in run.output
        assert run.end(signal.SIGTERM) == 0
    for client in fleet.clients:
        assert client.acknowledged > 0
        assert client.acknowledged <= shown[client.id] <= client.sent


def cut_power(run: LocalRun) -> None:
    """Kill all processes at once with SIGKILL."""
    parts = {pid for pid, (parent, _) in processes().items() if parent == run.process.pid}
    kafka = run.part("kafka")
    assert kafka is not None
    run.process.send_signal(signal.SIGSTOP)  # it would start another broker
    os.kill(kafka, signal.SIGKILL)
    run.process.kill()
    wait_for(lambda: not parts & processes().keys(), "all parts are gone")


async def became_of(
    run: LocalRun, http: aiohttp.ClientSession, receipt: str
) -> tuple[str, str | None]:
    headers = {"Authorization": f"Bearer {run.secret('METRICS_TOKEN')}"}
    async with http.get(f"{run.url}/api/v1/receipts/{receipt}", headers=headers) as answer:
        document = await answer.json()
        assert answer.status == 200, document
        return document["state"], document.get("result")
