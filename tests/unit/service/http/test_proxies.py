"""Client addresses: X-Forwarded-For is used only from a trusted proxy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from service.config.networks import Networks
from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings
from service.http.application import build_app, route
from service.http.errors import JSON
from service.http.server import serving
from service.metrics.requests import RequestMetrics, address_of
from tobogganing.devstack.ports import free_ports


@contextlib.asynccontextmanager
async def asked_by(trusted: str) -> AsyncIterator[httpx.AsyncClient]:
    """A server on loopback that returns the client address it sees."""

    async def show(request: Request) -> Response:
        return JSON({"address": address_of(request.scope)})

    settings = HttpSettings(
        metrics_token=ReloadableTokens("m"),
        host="127.0.0.1",
        port=free_ports(1)[0],
        log_level="WARNING",
        trusted_proxies=Networks(trusted),
    )
    app = build_app([route("/", show, "GET")], RequestMetrics(CollectorRegistry()))
    url = f"http://127.0.0.1:{settings.port}"
    async with serving(app, settings), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await http.get("/")
                    break
        yield http


async def address(http: httpx.AsyncClient, *forwarded_for: str, **headers: str) -> str:
    sent = [("x-forwarded-for", value) for value in forwarded_for]
    answer = await http.get("/", headers=[*sent, *headers.items()])
    return str(answer.json()["address"])


async def test_by_default_a_forged_header_is_ignored() -> None:
    async with asked_by("") as http:
        assert await address(http, "192.0.2.1") == "127.0.0.1"
        assert await address(http, "192.0.2.1", forwarded="for=192.0.2.1") == "127.0.0.1"


async def test_a_forwarded_header_of_an_untrusted_client_is_ignored() -> None:
    async with asked_by("10.0.0.0/8, 127.0.0.2") as http:
        assert await address(http, "192.0.2.1") == "127.0.0.1"


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.7,127.0.0.0/8"])
async def test_the_forwarded_header_of_a_trusted_proxy_is_used(trusted: str) -> None:
    async with asked_by(trusted) as http:
        assert await address(http, "192.0.2.1") == "192.0.2.1"
        assert await address(http, "2001:db8::1") == "2001:db8::1"
        assert await address(http) == "127.0.0.1"
        assert await address(http, "") == "127.0.0.1"


async def test_forwarded_addresses_sent_by_the_client_are_ignored() -> None:
    """With a proxy that appends, the last address is the one that the proxy saw."""
    async with asked_by("127.0.0.1, 10.0.0.0/8") as http:
        assert await address(http, "203.0.113.9, 192.0.2.1") == "192.0.2.1"
        assert await address(http, "203.0.113.9", "192.0.2.1") == "192.0.2.1"
        assert await address(http, "203.0.113.9, 192.0.2.1, 10.0.0.7") == "192.0.2.1"
