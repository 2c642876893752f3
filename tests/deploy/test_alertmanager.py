"""Alertmanager with its own file: what one cause makes of notifications."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy import programs, started
from tests.deploy.compose import ROOT
from tests.deploy.stack import POLL
from tobogganing.local import process
from tobogganing.local.ports import free_ports

CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
CLIENTS = 10_000
BATCH = 64
"""Alerts that Prometheus sends at once."""
PATIENCE = 60

Alert = dict[str, Any]


class Receiver:
    """The operators' webhook: it keeps what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = re.search(r"content-length: (\d+)", head)
                assert length, head
                self.told.put_nowait(json.loads(await reader.readexactly(int(length[1]))))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        writer.close()

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            return await self.told.get()


class Alertmanager:
    """A running Alertmanager whose operators are told by webhook."""

    def __init__(self, http: httpx.AsyncClient, receiver: Receiver) -> None:
        self.http = http
        self.receiver = receiver

    async def send(self, alerts: list[Alert]) -> None:
        """Send alerts as Prometheus does: in batches, with an end that is a few minutes away."""
        now = datetime.now(UTC)
        times = {
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(minutes=10)).isoformat(),
        }
        for start in range(0, len(alerts), BATCH):
            batch = [alert | times for alert in alerts[start : start + BATCH]]
            (await self.http.post("/api/v2/alerts", json=batch)).raise_for_status()


@pytest.fixture
async def alertmanager(tmp_path: Path) -> AsyncIterator[Alertmanager]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    hook = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    text = CONFIG.read_text(encoding="utf-8")
    assert text.endswith("  - name: operators\n")
    text += f"    webhook_configs: [{{url: '{hook}'}}]\n"
    # A tenth of the patience.
    text, number = re.subn(r"group_wait: (\d+)0s", r"group_wait: \g<1>s", text)
    assert number == 2
    file = tmp_path / "alertmanager.yml"
    file.write_text(text, encoding="utf-8")
    (port,) = free_ports(1)
    program = programs.alertmanager(tmp_path)
    started.note(program.path.name)
    with (tmp_path / "alertmanager.log").open("wb") as log:
        child = process.start(
            [
                *(program.path, f"--config.file={file}", f"--storage.path={tmp_path}/data"),
                *("--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"),
            ],
            environ=program.environ,
            output=log,
            folder=tmp_path,
        )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10
        ) as http:
            async with asyncio.timeout(PATIENCE):
                while not await ready(http):
                    assert child.poll() is None, (tmp_path / "alertmanager.log").read_text()
                    await asyncio.sleep(POLL)
            yield Alertmanager(http, receiver)
    finally:
        await process.stop(child, 5)
        server.close()


async def ready(http: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/-/ready")).status_code == 200
    return False


def alert(alertname: str, severity: str, **labels: str) -> Alert:
    return {"labels": {"alertname": alertname, "severity": severity, **labels}}


def offline(number: int) -> Alert:
    return alert("ClientOffline", "warning", client_id=f"c{number}", name=f"client {number}")


async def test_ten_thousand_clients_offline_are_one_notification(
    alertmanager: Alertmanager,
) -> None:
    await alertmanager.send([offline(n) for n in range(CLIENTS)])
    first = await alertmanager.receiver.next()
    assert first["groupLabels"] == {"alertname": "ClientOffline"}
    assert len({alert["labels"]["client_id"] for alert in first["alerts"]}) == CLIENTS
    # Another cause is another notification; nothing else came between the two.
    await alertmanager.send([alert("HeadendDown", "critical", headend_id="h1")])
    second = await alertmanager.receiver.next()
    assert second["groupLabels"] == {"alertname": "HeadendDown"}
    assert alertmanager.receiver.told.empty()


@pytest.mark.parametrize("cause", ["ScrapeStale", "MetricsMissing", "PipelineStuck"])
async def test_nobody_is_told_that_entities_are_silent_when_it_is_us(
    alertmanager: Alertmanager, cause: str
) -> None:
    await alertmanager.send([alert(cause, "critical")])
    assert (await alertmanager.receiver.next())["groupLabels"] == {"alertname": cause}
    await alertmanager.send([offline(1), alert("HeadendDown", "critical", headend_id="h1")])
    async with asyncio.timeout(PATIENCE):
        while True:
            alerts = (await alertmanager.http.get("/api/v2/alerts")).json()
            states = {one["labels"]["alertname"]: one["status"]["state"] for one in alerts}
            if states.get("ClientOffline") == states.get("HeadendDown") == "suppressed":
                break
            await asyncio.sleep(POLL)
    await alertmanager.send([alert("DeadLetters", "warning")])
    assert (await alertmanager.receiver.next())["groupLabels"] == {"alertname": "DeadLetters"}
