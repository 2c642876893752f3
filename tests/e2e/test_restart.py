"""Each part of a run is killed under load; every acknowledged submission is in the scrape."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.local_run import PARTS, LocalRun
from tests.long import IS_LONG
from tests.waiting import pause

CLIENTS = 40
SIGNALS = [signal.SIGTERM, signal.SIGKILL] if IS_LONG else [signal.SIGKILL]
FAULTS = [(part, number) for number in SIGNALS for part in PARTS]


@dataclass
class Client:
    """Posts 1, 2, 3 …, each until the response is 200 or it gives up."""

    id: str
    api_key: str
    sent: int = 0
    acknowledged: int = 0
    receipt: str = ""


@dataclass
class RestartFleet:
    run: LocalRun
    clients: list[Client] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    acknowledged: int = 0

    async def register(self, http: aiohttp.ClientSession) -> None:
        headers = {"Authorization": f"Bearer {self.run.secret('ADMIN_TOKEN')}"}
        for number in range(CLIENTS):
            body = {"name": f"client {number}", "type": "mobile"}
            url = f"{self.run.url}/api/v1/clients/register"
            async with http.post(url, json=body, headers=headers) as answer:
                registered = await answer.json()
                self.clients.append(Client(registered["client_id"], registered["api_key"]))

    @contextlib.asynccontextmanager
    async def posting(self, http: aiohttp.ClientSession) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(self._post(http, client, stop))
            yield
            stop.set()

    async def _post(self, http: aiohttp.ClientSession, client: Client, stop: asyncio.Event) -> None:
        url = f"{self.run.url}/api/v1/clients/{client.id}/metrics"
        headers = {"Authorization": f"Bearer {client.api_key}"}
        while not stop.is_set():
            client.sent += 1
            body = {"metrics": {"bytes_sent": client.sent}}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.post(url, json=body, headers=headers) as answer:
                    if answer.status == 200:
                        client.receipt = (await answer.json())["receipt"]
                        client.acknowledged = client.sent
                        self.acknowledged += 1
                    else:
                        self.refused.add(answer.status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.2)

    async def some_acknowledged(self, number: int = 2 * CLIENTS) -> None:
        """Wait until this number of further submissions was acknowledged."""
        target = self.acknowledged + number
        async with asyncio.timeout(60):
            while self.acknowledged < target:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def shown(self, http: aiohttp.ClientSession) -> dict[str, float]:
        """Return a scrape that includes each client's last acknowledged submission."""
        after = [("after", client.receipt) for client in self.clients]
        headers = {"Authorization": f"Bearer {self.run.secret('METRICS_TOKEN')}"}
        url = f"{self.run.url}/metrics"
        async with asyncio.timeout(60):
            status = 0
            while status != 200:  # Kafka and all services may have restarted just before
                async with http.get(url, params=after, headers=headers) as answer:
                    status, text = answer.status, await answer.text()
                    assert status in (200, 503, 504), text
                await pause()
        found = re.findall(
            r'^tobogganing_client_bytes_sent\{client_id="([^"]+)".*\} (\S+)$', text, re.MULTILINE
        )
        assert len(found) == len(dict(found)), "an entity has two series"
        return {id: float(value) for id, value in found}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


async def test_no_acknowledged_submission_is_lost_whatever_dies(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    with LocalRun(tmp_path / "state") as run:
        run.until_ready()
        fleet = RestartFleet(run)
        await fleet.register(http)
        async with fleet.posting(http):
            for part, number in FAULTS:
                await fleet.some_acknowledged()
                died = (
                    f"{part} died (signal SIGKILL" if number == signal.SIGKILL else f"{part} died"
                )
                before = run.output.count(died)
                pid = run.part(part)
                assert pid is not None
                os.kill(pid, number)
                async with asyncio.timeout(60):
                    while run.output.count(died) == before:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            await fleet.some_acknowledged()
        shown = await fleet.shown(http)
        assert run.end(signal.SIGTERM) == 0
        assert run.left_running() == []
    assert fleet.refused <= {503}
    for client in fleet.clients:
        # A submission without a response may or may not have been applied: nothing was promised.
        assert client.acknowledged <= shown[client.id] <= client.sent
