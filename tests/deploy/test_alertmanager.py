"""Prometheus and Alertmanager with their own files: the notifications of one cause."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy import programs
from tests.deploy.compose import ComposeService
from tests.deploy.config import folder_of, scrape_here
from tests.deploy.stack import POLL, Stack
from tests.e2e.prometheus import Programs
from tests.long import IS_LONG
from tools.debian import Program

CLIENTS = 10_000 if IS_LONG else 1_000
HEADENDS = 500 if IS_LONG else 50
LONG_AGO = timedelta(hours=1)
PATIENCE = 120

Alert = dict[str, Any]


class Receiver:
    """The operators' webhook, which stores its notifications."""

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
    """A running Alertmanager that notifies the operators by a webhook."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient, receiver: Receiver) -> None:
        self.stack = stack
        self.http = http
        self.receiver = receiver

    async def send(self, *alerts: Alert) -> None:
        """Send alerts that began long ago, so that their group is notified at once."""
        now = datetime.now(UTC)
        times = {
            "startsAt": (now - LONG_AGO).isoformat(),
            "endsAt": (now + timedelta(minutes=10)).isoformat(),
        }
        answer = await self.http.post("/api/v2/alerts", json=[alert | times for alert in alerts])
        answer.raise_for_status()

    async def has(self, alerts: int) -> None:
        """Wait until it has this number."""
        found = 0
        try:
            async with asyncio.timeout(PATIENCE):
                while found != alerts:
                    await asyncio.sleep(POLL)
                    # A list of thousands is large, so it is requested only when there may be
                    # enough.
                    if await self._received() >= alerts:
                        found = len((await self.http.get("/api/v2/alerts")).json())
        except TimeoutError:
            raise AssertionError(f"Alertmanager has {found} alerts, not {alerts}") from None

    async def _received(self) -> int:
        text = (await self.http.get("/metrics")).text
        firing = r'^alertmanager_alerts_received_total{status="firing".*} (\S+)$'
        return round(sum(float(number) for number in re.findall(firing, text, re.MULTILINE)))


@pytest.fixture
async def alertmanager(
    services: dict[str, ComposeService], tmp_path: Path
) -> AsyncIterator[Alertmanager]:
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack(services, folder)
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    hook = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    file = folder_of(stack, "alertmanager", "/etc/alertmanager") / "alertmanager.yml"
    text = file.read_text(encoding="utf-8")
    assert text.endswith("  - name: operators\n")
    file.write_text(text + f"    webhook_configs: [{{url: '{hook}'}}]\n", encoding="utf-8")
    address = f"127.0.0.1:{stack.port('alertmanager', '9093')}"
    stack.start_program(
        "alertmanager", programs.alertmanager(stack.folder), f"--web.listen-address={address}"
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://{address}", trust_env=False, timeout=30
        ) as http:
            async with asyncio.timeout(PATIENCE):
                while not await ready(http):
                    stack.check_running("alertmanager")
                    await asyncio.sleep(POLL)
            yield Alertmanager(stack, http, receiver)
    finally:
        stack.kill()
        server.close()


async def ready(http: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/-/ready")).status_code == 200
    return False


def alert(alertname: str, severity: str, **labels: str) -> Alert:
    return {"labels": {"alertname": alertname, "severity": severity, **labels}}


class AlertingFleet:
    """A `/metrics` page with clients and headends. `/metrics/fleet` shows nothing."""

    def __init__(self) -> None:
        self.shown = metrics(silent_clients=0, silent_headends=0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                shown = self.shown if request.startswith(b"GET /metrics HTTP/") else b""
                head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: "
                writer.write(f"{head}{len(shown)}\r\n\r\n".encode() + shown)
                await writer.drain()
        writer.close()


def metrics(silent_clients: int, silent_headends: int) -> bytes:
    """All check-ins: long ago for the silent entities, recent for the others."""
    coming, lines = time.time() + LONG_AGO.total_seconds(), []
    for n in range(CLIENTS):
        labels = f'client_id="c{n}",name="client {n}",type="docker",headless="true"'
        at = 1 if n < silent_clients else coming
        lines.append(f"tobogganing_client_last_check_in_timestamp{{{labels}}} {at}\n")
    for n in range(HEADENDS):
        labels = f'headend_id="h{n}",name="headend {n}",region="r",datacenter="d"'
        at = 1 if n < silent_headends else coming
        lines.append(f"tobogganing_headend_last_check_in_timestamp{{{labels}}} {at}\n")
    return "".join(lines).encode()


@contextlib.asynccontextmanager
async def scraped_fleet(stack: Stack, found: Programs) -> AsyncIterator[AlertingFleet]:
    """A healthy fleet, and the file's Prometheus, which scrapes it and uses the Alertmanager."""
    (stack.volume("scraper") / "metrics-token").write_text("none", encoding="ascii")
    scrape_here(stack)
    folder = folder_of(stack, "prometheus", "/etc/prometheus")
    config, guide = folder / "prometheus.yml", folder / "rules" / "guide.yml"
    text = config.read_text(encoding="utf-8").replace("rules/*.yml", "rules/guide.yml")
    text, number = re.subn(r"(scrape_(?:interval|timeout)): 500ms", r"\1: 2s", text)
    assert number == 2
    config.write_text(text, encoding="utf-8")
    text, number = re.subn(r"for: \w+", "for: 0s", guide.read_text(encoding="utf-8"))
    assert number == 3
    guide.write_text(text, encoding="utf-8")
    fleet = AlertingFleet()
    server = await asyncio.start_server(fleet.serve, "127.0.0.1", stack.port("edge", "8000"))
    address = f"127.0.0.1:{stack.port('prometheus', '9090')}"
    stack.start_program("prometheus", Program(found.prometheus), f"--web.listen-address={address}")
    try:
        async with httpx.AsyncClient(
            base_url=f"http://{address}", trust_env=False, timeout=30
        ) as http:
            async with asyncio.timeout(PATIENCE):
                while not await sees_all(http):
                    stack.check_running("prometheus")
                    await asyncio.sleep(POLL)
            yield fleet
    finally:
        server.close()


async def sees_all(http: httpx.AsyncClient) -> bool:
    if not await ready(http):
        return False
    managers = (await http.get("/api/v1/alertmanagers")).json()["data"]["activeAlertmanagers"]
    query = {"query": "count(tobogganing_client_last_check_in_timestamp)"}
    result = (await http.get("/api/v1/query", params=query)).json()["data"]["result"]
    return bool(managers and result) and result[0]["value"][1] == str(CLIENTS)


async def test_clients_offline_at_once_are_one_notification(
    alertmanager: Alertmanager, prometheus_programs: Programs
) -> None:
    """An outage: first some clients become silent, then all clients and all headends."""
    receiver = alertmanager.receiver
    async with scraped_fleet(alertmanager.stack, prometheus_programs) as fleet:
        fleet.shown = metrics(silent_clients=100, silent_headends=0)
        await alertmanager.has(100)
        fleet.shown = metrics(silent_clients=CLIENTS, silent_headends=HEADENDS)
        await alertmanager.has(CLIENTS + HEADENDS)
        # One client that has been offline for longer ends the wait of the group.
        await alertmanager.send(alert("ClientOffline", "warning", client_id="long ago"))
        clients: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        while not clients:
            notification = await receiver.next()
            whose = notification["groupLabels"]["alertname"]
            (clients if whose == "ClientOffline" else others).append(notification)
        assert len({alert["labels"]["client_id"] for alert in clients[0]["alerts"]}) == CLIENTS + 1
        # Another cause is another notification. No third came.
        others = others or [await receiver.next()]
        assert [each["groupLabels"]["alertname"] for each in others] == ["HeadendDown"]
        await alertmanager.send(alert("DeadLetters", "warning"))
        assert (await receiver.next())["groupLabels"] == {"alertname": "DeadLetters"}


@pytest.mark.parametrize("cause", ["ScrapeStale", "MetricsMissing"])
async def test_nobody_is_told_that_entities_are_silent_when_it_is_us(
    alertmanager: Alertmanager, cause: str
) -> None:
    await alertmanager.send(alert(cause, "critical"))
    assert (await alertmanager.receiver.next())["groupLabels"] == {"alertname": cause}
    silent = ("ClientOffline", "warning"), ("HeadendDown", "critical")
    await alertmanager.send(*(alert(name, severity) for name, severity in silent))
    async with asyncio.timeout(PATIENCE):
        while True:
            alerts = (await alertmanager.http.get("/api/v2/alerts")).json()
            states = {one["labels"]["alertname"]: one["status"]["state"] for one in alerts}
            if states.get("ClientOffline") == states.get("HeadendDown") == "suppressed":
                break
            await asyncio.sleep(POLL)
    await alertmanager.send(alert("DeadLetters", "warning"))
    assert (await alertmanager.receiver.next())["groupLabels"] == {"alertname": "DeadLetters"}


async def states_of(alertmanager: Alertmanager, wanted: dict[str, str]) -> None:
    """Wait until each alert, by name and entity, is in its state."""
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while found != wanted:
                await asyncio.sleep(POLL)
                found = {}
                for one in (await alertmanager.http.get("/api/v2/alerts")).json():
                    labels = one["labels"]
                    whose = labels.get("client_id") or labels.get("headend_id") or ""
                    found[f"{labels['alertname']} {whose}"] = one["status"]["state"]
    except TimeoutError:
        raise AssertionError(f"the alerts are {found}") from None


async def test_a_stuck_partition_mutes_only_those_whom_it_could_hide(
    alertmanager: Alertmanager,
) -> None:
    await alertmanager.send(
        alert("PipelineStuck", "critical", partition="0"),
        alert("ClientSilenceExplained", "none", client_id="stuck"),
        alert("HeadendSilenceExplained", "none", headend_id="stuck"),
    )
    assert (await alertmanager.receiver.next())["groupLabels"] == {"alertname": "PipelineStuck"}
    await alertmanager.send(
        # Alerts that are not muted come first: a group whose first alert is muted may notify the
        # second one only after 5 minutes.
        alert("ClientOffline", "warning", client_id="off"),
        alert("ClientOffline", "warning", client_id="stuck"),
        alert("HeadendDown", "critical", headend_id="down"),
        alert("HeadendDown", "critical", headend_id="stuck"),
    )
    await states_of(
        alertmanager,
        {
            "PipelineStuck ": "active",
            "ClientSilenceExplained stuck": "active",
            "HeadendSilenceExplained stuck": "active",
            "ClientOffline stuck": "suppressed",
            "ClientOffline off": "active",
            "HeadendDown stuck": "suppressed",
            "HeadendDown down": "active",
        },
    )
    told = [await alertmanager.receiver.next() for _ in range(2)]
    whose = {each["groupLabels"]["alertname"]: each["alerts"] for each in told}
    assert whose.keys() == {"ClientOffline", "HeadendDown"}
    assert [one["labels"]["client_id"] for one in whose["ClientOffline"]] == ["off"]
    assert [one["labels"]["headend_id"] for one in whose["HeadendDown"]] == ["down"]


async def test_a_headend_that_is_down_is_not_said_to_be_busy(alertmanager: Alertmanager) -> None:
    await alertmanager.send(alert("HeadendDown", "critical", headend_id="down"))
    assert (await alertmanager.receiver.next())["groupLabels"] == {"alertname": "HeadendDown"}
    await alertmanager.send(
        alert("HeadendHighCPU", "critical", headend_id="busy"),
        alert("HeadendHighCPU", "critical", headend_id="down"),
    )
    await states_of(
        alertmanager,
        {
            "HeadendDown down": "active",
            "HeadendHighCPU down": "suppressed",
            "HeadendHighCPU busy": "active",
        },
    )
    (busy,) = (await alertmanager.receiver.next())["alerts"]
    assert busy["labels"]["headend_id"] == "busy"
