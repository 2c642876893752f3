"""The OpenTelemetry Collector as a peer. Debian has none, so it is built where Go is found.

Its own builder makes it of two parts: what takes OTLP over HTTP, and what Prometheus scrapes.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench.fleet import Clients
from bench.load import post
from bench.peers import Peer, peer_target, shown_values
from bench.processes import cores, running
from bench.rounds import MeasuredTarget
from bench.scraping import TIMEOUT
from contract.kinds import CLIENT
from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.errors import LocalError

VERSION = "0.155.0"
NAME = "OpenTelemetry Collector"
_BUILDER = f"go.opentelemetry.io/collector/cmd/builder@v{VERSION}"
_PARTS = f"""\
dist: {{name: otelcol, output_path: .}}
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v{VERSION}
exporters:
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter v{VERSION}
"""  # noqa: E501
BUILD_WITHIN = 900


@functools.cache
def build_collector() -> Path | None:
    """The collector's program, built where it is missing: a few minutes.

    None: there is no Go here, or it could not build it, which is said.
    """
    go = shutil.which("go")
    folder = cache_folder() / "collector" / VERSION
    built = folder / "otelcol"
    if go is None:
        return None
    with exclusive(folder.parent / "lock"):
        try:
            if not built.exists():
                _build(go, folder)
        except (LocalError, subprocess.TimeoutExpired) as error:
            print(f"Without the OpenTelemetry Collector: {error}", file=sys.stderr, flush=True)
            return None
    return built


def _build(go: str, folder: Path) -> None:
    print(f"Building the OpenTelemetry Collector {VERSION}", file=sys.stderr, flush=True)
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
        timeout=BUILD_WITHIN,
        check=False,
    )
    if result.returncode:
        raise LocalError(f"the OpenTelemetry Collector was not built: {result.stderr[-2000:]}")
    folder.mkdir(parents=True, exist_ok=True)
    (scratch / "otelcol").rename(folder / "otelcol")
    shutil.rmtree(scratch)


@contextlib.asynccontextmanager
async def collector(program: Path, folder: Path) -> AsyncIterator[Peer]:
    """Run a collector that shows what it takes."""
    taking, showing = free_ports(2)
    config = folder / f"collector-{taking}.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "receivers": {
                    "otlp": {"protocols": {"http": {"endpoint": f"{LOOPBACK}:{taking}"}}}
                },
                "exporters": {
                    "prometheus": {
                        "endpoint": f"{LOOPBACK}:{showing}",
                        "metric_expiration": "24h",
                        "write_timeout": f"{TIMEOUT}s",  # else it gives up a large scrape
                        "add_metric_suffixes": False,
                    }
                },
                "service": {
                    "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
                    "pipelines": {"metrics": {"receivers": ["otlp"], "exporters": ["prometheus"]}},
                },
            }
        )
    )
    async with running(
        [program, f"--config={config}"],
        environ={"PATH": "/usr/bin:/bin"},
        log=folder / f"collector-{taking}.log",
        ready=f"http://{LOOPBACK}:{showing}/metrics",
        core=cores()[0],
    ) as pid:
        yield Peer(NAME, taking, pid, "/metrics", showing=showing)


def otlp_target(
    peer: Peer, clients: Clients, connections: int, size: int = 1, share: float = 0.3
) -> MeasuredTarget:
    """Pushes of OTLP in JSON, of so many clients each."""

    def request(first: int, last: int) -> bytes:
        content = _otlp(clients, range(first, last))
        return post("/v1/metrics", content, Content_Type="application/json")

    return peer_target(peer, clients, connections, request, size, share)


def _otlp(clients: Clients, numbers: Sequence[int]) -> bytes:
    """The six gauges of the clients with these numbers, a gauge with a point for each client."""
    points: dict[str, list[object]] = {family.name: [] for family in CLIENT.families}
    for number in numbers:
        labels = {CLIENT.id_label: clients.id(number), **clients.labels(number)}
        attributes = [
            {"key": name, "value": {"stringValue": value}} for name, value in labels.items()
        ]
        for name, value in shown_values(clients, number).items():
            points[name].append({"asDouble": value, "attributes": attributes})
    metrics = [{"name": name, "gauge": {"dataPoints": each}} for name, each in points.items()]
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()
