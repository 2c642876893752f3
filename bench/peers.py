"""Other systems that accept pushes and expose them to Prometheus.

Pushgateway and VictoriaMetrics are Debian packages; the OpenTelemetry Collector is built if Go is
installed. They get what a client submits to the gateway: six gauges with the same names and labels.
"""

import asyncio
import contextlib
import functools
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import WrongResultError
from bench.fleet import CHECK_IN, UNIT, Clients
from bench.load import Address, Driver, Workload, post
from bench.processes import cores, running
from bench.rounds import MeasuredTarget
from bench.scraping import TIMEOUT, fetch
from contract.kinds import CLIENT
from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.errors import LocalError
from tools.debian import unpacked, victoria_metrics

VISIBLE_WITHIN = 30.0
"""Seconds within which a peer must expose what it has accepted."""
COLLECTOR_VERSION = "0.155.0"
BUILD_TIMEOUT = 900
_BUILDER = f"go.opentelemetry.io/collector/cmd/builder@v{COLLECTOR_VERSION}"
_PARTS = f"""\
dist: {{name: otelcol, output_path: .}}
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v{COLLECTOR_VERSION}
exporters:
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter v{COLLECTOR_VERSION}
"""  # noqa: E501
_SHOWN = re.compile(
    rb'^tobogganing_client_bytes_sent\{[^}]*client_id="client-(\d+)"[^}]*\} (\S+)', re.MULTILINE
)

Request = Callable[[int, int], bytes]
"""Makes the request with the pushes from one number to before another."""


@dataclass
class Peer:
    """A running system, empty at first; `page` is its Prometheus page, on `page_port`."""

    name: str
    port: int
    pid: int
    page: str
    page_port: int
    pushed: int = 0
    """Number of the next push."""

    def target(
        self,
        clients: Clients,
        connections: int,
        request: Request,
        size: int = 1,
        share: float = 1.0,
        case: str = "",
    ) -> MeasuredTarget:
        """Pushes of `size` clients each."""

        def work(count: int) -> Pushes:
            first, self.pushed = self.pushed, self.pushed + count
            return Pushes(self, clients, first, count, request, size)

        case = f"{connections} connections{case}"
        address, pids = Address(LOOPBACK, self.port), {self.name: self.pid}
        return MeasuredTarget(self.name, case, address, pids, work, connections, share=share)


class Pushes(Workload):
    """Pushes to a peer; `check` compares what it exposes."""

    def __init__(
        self, peer: Peer, clients: Clients, first: int, count: int, request: Request, size: int
    ) -> None:
        super().__init__(first, count, size)
        self._peer, self._clients, self._request = peer, clients, request

    def request(self, first: int, last: int) -> bytes:
        return self._request(first, last)

    def answered(self, number: int, status: int, body: bytes) -> None:
        if status not in (200, 202, 204):
            raise WrongResultError(f"{self._peer.name} responded {status}: {body[:500]!r}")

    async def check(self) -> None:
        """Wait until one gauge of each client has a value of this workload.

        Any value counts: two pushes of one client on two connections may arrive in either order.
        """
        deadline = time.monotonic() + VISIBLE_WITHIN
        while (wrong := await self._wrong()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        if wrong:
            raise WrongResultError(f"{self._peer.name} shows {wrong[0]}; {len(wrong)} are wrong")

    async def _wrong(self) -> list[str]:
        if self._peer.page.startswith("/federate"):
            await fetch(self._peer.port, "/internal/force_flush")
        page = await fetch(self._peer.page_port, self._peer.page)
        shown = {int(id): int(float(value)) - UNIT for id, value in _SHOWN.findall(page.body)}
        size, pushed = self._clients.size, range(self.first, self.end)
        return [
            f"push {last} of client {client} instead of push {number}"
            for number in pushed[-size:]
            if (last := shown.get(client := number % size, -1)) not in pushed
            or last % size != client
        ]


def exposed_values(clients: Clients, number: int) -> dict[str, float]:
    """A client's six gauges by name."""
    values = {**clients.metrics(number), CLIENT.last_check_in.field: CHECK_IN + number}
    return {family.name: values[family.field] for family in CLIENT.families}


def gauges(clients: Clients, number: int, *, with_id: bool, typed: bool) -> bytes:
    """A client's six gauges as text; with `typed`, each after a TYPE line."""
    labels = clients.labels(number)
    if with_id:
        labels = {CLIENT.id_label: clients.id(number), **labels}
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    lines = []
    for name, value in exposed_values(clients, number).items():
        if typed:
            lines.append(f"# TYPE {name} gauge\n")
        lines.append(f"{name}{{{text}}} {value}\n")
    return "".join(lines).encode()


@contextlib.asynccontextmanager
async def _peer(
    name: str,
    folder: Path,
    command: Sequence[str | Path],
    port: int,
    page: str,
    ready: str,
    page_port: int | None = None,
) -> AsyncIterator[Peer]:
    """Run a peer on the servers' core; `page` and `ready` are paths on `page_port`, else `port`."""
    shown = page_port or port
    async with running(
        command,
        environ={"PATH": "/usr/bin:/bin"},
        log=folder / f"peer-{port}.log",
        ready=f"http://{LOOPBACK}:{shown}{ready}",
        core=cores()[0],
    ) as pid:
        yield Peer(name, port, pid, page, shown)


def pushgateway(folder: Path, *, checks: bool) -> contextlib.AbstractAsyncContextManager[Peer]:
    """Run a Pushgateway, with its consistency checks (its default) or without."""
    (package,) = unpacked("prometheus-pushgateway")
    port = free_ports(1)[0]
    command: list[str | Path] = [
        package / "usr/bin/prometheus-pushgateway",
        f"--web.listen-address={LOOPBACK}:{port}",
        f"--web.local-assets={package}/usr/share/prometheus/pushgateway",
        "--persistence.file=",
        "--log.level=error",
        *([] if checks else ["--push.disable-consistency-check"]),
    ]
    name = "Pushgateway" + ("" if checks else ", checks off")
    return _peer(name, folder, command, port, "/metrics", "/-/ready")


def push_target(
    peer: Peer, clients: Clients, connections: int, share: float = 1.0
) -> MeasuredTarget:
    """Pushes to a Pushgateway, with one group for each client."""

    def request(first: int, _: int) -> bytes:
        path = f"/metrics/job/bench/{CLIENT.id_label}/{clients.id(first)}"
        return post(path, gauges(clients, first, with_id=False, typed=True))

    groups = f", {clients.size:,} groups"
    return peer.target(clients, connections, request, share=share, case=groups)


def victoria(folder: Path) -> contextlib.AbstractAsyncContextManager[Peer]:
    """Run a single-node VictoriaMetrics."""
    port = free_ports(1)[0]
    command: list[str | Path] = [
        victoria_metrics().path,
        f"-httpListenAddr={LOOPBACK}:{port}",
        f"-storageDataPath={folder}/victoria-{port}",
        "-loggerLevel=ERROR",
        "-search.maxUniqueTimeseries=10000000",
        "-search.maxFederateSeries=10000000",
        # New samples are visible at once, as in all other systems here.
        "-search.latencyOffset=0s",
    ]
    page = "/federate?match[]={client_id!=%22%22}"
    return _peer("VictoriaMetrics", folder, command, port, page, "/health")


def import_target(peer: Peer, clients: Clients, connections: int, size: int = 1) -> MeasuredTarget:
    """Imports into VictoriaMetrics."""

    def request(first: int, last: int) -> bytes:
        lines = [gauges(clients, n, with_id=True, typed=False) for n in range(first, last)]
        return post("/api/v1/import/prometheus", b"".join(lines))

    return peer.target(clients, connections, request, size)


@functools.cache
def build_collector() -> Path | None:
    """The OpenTelemetry Collector, built once with its own builder; None without Go."""
    go = shutil.which("go")
    folder = cache_folder() / "collector" / COLLECTOR_VERSION
    if go is None:
        return None
    with exclusive(folder.parent / "lock"):
        try:
            if not (folder / "otelcol").exists():
                _build(go, folder)
        except (LocalError, subprocess.TimeoutExpired) as error:
            print(f"Without the OpenTelemetry Collector: {error}", file=sys.stderr, flush=True)
            return None
    return folder / "otelcol"


def _build(go: str, folder: Path) -> None:
    print(f"Building the OpenTelemetry Collector {COLLECTOR_VERSION}", file=sys.stderr, flush=True)
    scratch = folder.parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "parts.yaml").write_text(_PARTS)
    environ = os.environ | {"GOMODCACHE": str(folder.parent / "modules"), "GOTOOLCHAIN": "local"}
    result = subprocess.run(
        [go, "run", "-modcacherw", _BUILDER, "--config", "parts.yaml"],
        cwd=scratch,
        env=environ | {"GOFLAGS": "-modcacherw"},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
        check=False,
    )
    if result.returncode:
        raise LocalError(f"the OpenTelemetry Collector was not built: {result.stderr[-2000:]}")
    folder.mkdir(parents=True, exist_ok=True)
    (scratch / "otelcol").rename(folder / "otelcol")
    shutil.rmtree(scratch)


def collector(program: Path, folder: Path) -> contextlib.AbstractAsyncContextManager[Peer]:
    """Run a Collector that accepts OTLP over HTTP and exposes it to Prometheus."""
    otlp, page = free_ports(2)
    exporter = {
        "endpoint": f"{LOOPBACK}:{page}",
        "metric_expiration": "24h",
        "write_timeout": f"{TIMEOUT}s",  # without it a large scrape is cut off
        "add_metric_suffixes": False,
    }
    settings = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"{LOOPBACK}:{otlp}"}}}},
        "exporters": {"prometheus": exporter},
        "service": {
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
            "pipelines": {"metrics": {"receivers": ["otlp"], "exporters": ["prometheus"]}},
        },
    }
    config = folder / f"collector-{otlp}.json"  # JSON is YAML
    config.write_text(json.dumps(settings))
    command: list[str | Path] = [program, f"--config={config}"]
    name = "OpenTelemetry Collector"
    return _peer(name, folder, command, otlp, "/metrics", "/metrics", page_port=page)


def otlp_target(
    peer: Peer, clients: Clients, connections: int, size: int = 1, share: float = 0.3
) -> MeasuredTarget:
    """Pushes of OTLP in JSON."""

    def request(first: int, last: int) -> bytes:
        content = _otlp(clients, range(first, last))
        return post("/v1/metrics", content, Content_Type="application/json")

    return peer.target(clients, connections, request, size, share)


def _otlp(clients: Clients, numbers: Sequence[int]) -> bytes:
    """The clients' six gauges; each gauge has a point for each client."""
    points: dict[str, list[object]] = {family.name: [] for family in CLIENT.families}
    for number in numbers:
        labels = {CLIENT.id_label: clients.id(number), **clients.labels(number)}
        attributes = [
            {"key": name, "value": {"stringValue": value}} for name, value in labels.items()
        ]
        for name, value in exposed_values(clients, number).items():
            points[name].append({"asDouble": value, "attributes": attributes})
    metrics = [{"name": name, "gauge": {"dataPoints": each}} for name, each in points.items()]
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()


async def fill(target: MeasuredTarget, clients: Clients, *, check: bool = True) -> None:
    """Push every client once, unmeasured."""
    work = target.work(clients.size)
    await Driver(target.address, work, target.connections).run()
    if check:
        await work.check()


def versions() -> dict[str, str]:
    """The versions of the Debian packages, from their changelogs."""
    found = {}
    for package in ("prometheus-pushgateway", "victoria-metrics", "haproxy"):
        (folder,) = unpacked(package)
        (log,) = (folder / "usr/share/doc" / package).glob("changelog.Debian.gz")
        with gzip.open(log, "rt", encoding="utf-8") as text:
            found[package] = text.readline().partition("(")[2].partition(")")[0]
    return found
