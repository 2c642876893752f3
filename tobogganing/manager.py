"""`tobogganing serve`: gateway and exporter in one process, on one port.

The product's guide calls it the manager.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from exporter.app import Exporter
from exporter.settings import ExporterSettings
from exporter.status_page import Link
from gateway.app import Gateway
from gateway.settings import GatewaySettings
from service.config.checks import check_url
from service.config.settings import Check, Port
from service.http.application import build_app
from service.http.health import ReadinessCheck, health_routes
from service.http.server import run
from service.metrics.requests import RequestMetrics
from service.startup import exit_if_misconfigured, start
from tobogganing.disk_space import full

PROCESSOR_TIMEOUT = 2.0
"""Seconds within which the processor must respond to the readiness probe."""

LINKS = (
    Link("/checkins", "which clients and headends check in (sign in with METRICS_TOKEN)"),
    Link(
        "/metrics",
        "every client and headend, for Prometheus (METRICS_TOKEN)",
        in_browsers=False,
    ),
    Link("/metrics/fleet", "the whole fleet in few series (METRICS_TOKEN)", in_browsers=False),
    Link("/api/v1/openapi.json", "the API, as an OpenAPI document"),
    Link("/-/ready", "readiness, with the reasons if it is not ready"),
    Link("/-/healthy", "alive"),
)


@dataclass(frozen=True, kw_only=True)
class ServeSettings(GatewaySettings, ExporterSettings):
    port: Port = 8000
    processor_ready_url: Annotated[str | None, Check(check_url)] = None
    """Readiness URL of the one processor; the manager is ready only if the processor is."""
    disk_folder: str | None = None
    """A folder on the disk of the one broker; the manager is ready only if that is not full."""


class ProcessorProbe:
    """Probes the readiness of the processor."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    async def not_ready_reasons(self) -> list[str]:
        if self._url is None:
            return []
        timeout = aiohttp.ClientTimeout(total=PROCESSOR_TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._url) as response,
            ):
                ready = response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            ready = False
        return [] if ready else ["processor"]


class DiskProbe:
    """Checks the free space of the broker's disk: a full disk is the cause if Kafka does not
    respond."""

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder)

    async def not_ready_reasons(self) -> list[str]:
        reason = None if self._folder is None else full(self._folder)
        return [f"disk space ({reason})"] if reason else []


def build_manager(settings: ServeSettings) -> Starlette:
    """Build the application of both services.

    Raises:
        SettingsError: the signing key is invalid.
    """
    requests = RequestMetrics(CollectorRegistry())
    gateway = Gateway(settings, requests)
    exporter = Exporter(settings, requests=requests, registry=gateway.registry)
    processor = ProcessorProbe(settings.processor_ready_url)
    disk = DiskProbe(settings.disk_folder)
    not_ready_reasons = all_reasons(
        disk.not_ready_reasons,
        gateway.not_ready_reasons,
        exporter.not_ready_reasons,
        processor.not_ready_reasons,
    )
    families = (requests.registry, gateway.metrics.registry, exporter.metrics.registry)
    routes = [
        *gateway.routes(),
        exporter.metrics_route(extra_registries=families),
        exporter.fleet_route(),
        *exporter.api_routes(),
        *exporter.checkin_routes(),
        exporter.status_route(not_ready_reasons, LINKS),
        *health_routes(not_ready_reasons),
    ]
    lifespan = combined_lifespan(gateway, exporter)
    return build_app(routes, requests, lifespan, gateway.fast_path, gateway.on_stop)


def combined_lifespan(
    gateway: Gateway, exporter: Exporter
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """A lifespan in which both services run."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with gateway, exporter:
            yield

    return lifespan


def all_reasons(*parts: ReadinessCheck) -> ReadinessCheck:
    """The reasons of all parts, each once."""

    async def not_ready_reasons() -> list[str]:
        reasons = [reason for part in parts for reason in await part()]
        return list(dict.fromkeys(reasons))

    return not_ready_reasons


def main() -> None:
    """Serve until SIGTERM or SIGINT; the exit status is 2 if a setting is wrong."""
    with exit_if_misconfigured():
        settings = start(ServeSettings, "serve")
        run(build_manager(settings), settings, settings.grace_seconds)


if __name__ == "__main__":
    main()
