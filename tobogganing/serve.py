"""`tobogganing serve`: gateway and exporter in one process, on one port.

It is what the product's guide calls the manager: submissions come in, and /metrics shows all.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from exporter.app import Exporter
from exporter.pages import Link
from exporter.settings import ExporterSettings
from gateway.app import Gateway
from gateway.settings import GatewaySettings
from service.health import Reasons, health_routes
from service.http import build_app
from service.logs import configure_logs
from service.requests import RequestMetrics
from service.server import run
from service.settings import Port, SettingsError, load_settings

PROCESSOR_TIMEOUT = 2.0
"""Seconds that the processor may take to say whether it is ready."""

LINKS = (
    Link("/metrics", "every client and headend, for Prometheus (needs METRICS_TOKEN)"),
    Link("/api/v1/openapi.json", "the API, as an OpenAPI document"),
    Link("/-/ready", "ready, or what is waited for"),
    Link("/-/healthy", "alive"),
)


@dataclass(frozen=True, kw_only=True)
class ServeSettings(GatewaySettings, ExporterSettings):
    port: Port = 8000
    processor_ready_url: str | None = None
    """Asked too before this is ready: for an installation with one processor beside it."""


class ProcessorProbe:
    """Asks the processor whether it is ready."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    async def waiting_for(self) -> list[str]:
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


def build_manager(settings: ServeSettings) -> Starlette:
    """Make the one application of both services.

    Raises:
        SettingsError: the signing key is none.
    """
    requests = RequestMetrics(CollectorRegistry())
    gateway = Gateway(settings, requests)
    exporter = Exporter(settings, requests=requests, registry=gateway.registry)
    processor = ProcessorProbe(settings.processor_ready_url)
    waiting_for = all_of(gateway.waiting_for, exporter.waiting_for, processor.waiting_for)
    families = (requests.registry, gateway.metrics.registry, exporter.metrics.registry)
    routes = [
        *gateway.routes(),
        exporter.metrics_route(beside=families),
        *exporter.api_routes(),
        exporter.front_route(waiting_for, LINKS),
        *health_routes(waiting_for),
    ]
    return build_app(routes, requests, running(gateway, exporter), gateway.direct)


def running(
    gateway: Gateway, exporter: Exporter
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """The application's lifespan: both services run."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with gateway, exporter:
            yield

    return lifespan


def all_of(*parts: Reasons) -> Reasons:
    """What any of the parts waits for, each once."""

    async def waiting_for() -> list[str]:
        reasons = [reason for part in parts for reason in await part()]
        return list(dict.fromkeys(reasons))

    return waiting_for


def main() -> None:
    """Serve until SIGTERM or SIGINT; the exit status is 2 where the environment is not enough."""
    try:
        settings = load_settings(ServeSettings)
        app = build_manager(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    configure_logs(settings, "serve")
    run(app, settings, settings.grace_seconds)


if __name__ == "__main__":
    main()
