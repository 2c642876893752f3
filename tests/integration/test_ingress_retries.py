"""What the proxies of ingress controllers send again, and when a request then has arrived."""

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from gateway.ingest.arrival import ArrivalDeadlines
from service.config.networks import Networks
from tests.ingress.rules import Site
from tests.ingress.running import CONTROLLERS, controller_settings, ingress, production_with
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import free_ports

WITHIN = 8.0
PATH = "/api/v1/clients/c/metrics"


class Pod:
    """A service that notes each request; `breaks` is how many connections it closes instead."""

    def __init__(self, breaks: int = 0) -> None:
        self.breaks = breaks
        self.heads: list[str] = []
        self.left: list[float] = []
        """The time that a gateway would have had for each request."""
        self._deadlines = ArrivalDeadlines(Networks("127.0.0.1"), WITHIN)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            for length in re.findall(r"(?i)content-length: (\d+)", head):
                await reader.readexactly(int(length))
            self.heads.append(head)
            (arrived,) = re.findall(r"(?i)x-request-start: (\S+)\r", head)
            deadline = self._deadlines.deadline(("127.0.0.1", 1), arrived.encode())
            self.left.append(deadline - time.monotonic())
            if self.breaks:
                self.breaks -= 1
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()


@contextlib.asynccontextmanager
async def before(controller: str, folder: Path, *ports: int) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the controller's proxy before gateways at these ports."""
    certificate = folder / "edge.pem"
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    manifests = await asyncio.to_thread(production_with, controller, folder)
    pods = {"gateway": ports, "exporter": ports}
    site = Site(manifests, controller_settings(controller), pods, certificate, certificate)
    async with (
        ingress(controller, site, folder) as listening,
        httpx.AsyncClient(
            base_url=f"https://localhost:{listening.https}",
            verify=ssl.create_default_context(cafile=certificate),
            trust_env=False,
            timeout=20,
        ) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def listening(*pods: Pod) -> AsyncIterator[list[int]]:
    ports = free_ports(len(pods))
    async with contextlib.AsyncExitStack() as stack:
        for pod, port in zip(pods, ports, strict=True):
            await stack.enter_async_context(
                await asyncio.start_server(pod.serve, "127.0.0.1", port)
            )
        yield ports


@pytest.mark.parametrize("controller", CONTROLLERS)
async def test_a_request_that_was_sent_is_not_sent_again(controller: str, tmp_path: Path) -> None:
    pods = [Pod(breaks=1), Pod(breaks=1)]
    async with (
        listening(*pods) as ports,
        before(controller, tmp_path, *ports) as client,
    ):
        answer = await client.post(PATH, json={})
        assert answer.status_code == 502
        assert sum(len(pod.heads) for pod in pods) == 1


@pytest.mark.parametrize("controller", CONTROLLERS)
async def test_a_pod_that_is_gone_is_passed_over(controller: str, tmp_path: Path) -> None:
    pod = Pod()
    (gone,) = free_ports(1)
    async with (
        listening(pod) as ports,
        before(controller, tmp_path, gone, *ports) as client,
    ):
        for _ in range(4):
            assert (await client.post(PATH, json={})).status_code == 200


@pytest.mark.parametrize("controller", CONTROLLERS)
async def test_a_second_attempt_has_no_second_deadline(controller: str, tmp_path: Path) -> None:
    """The first pod accepts no connection, and does not refuse it either."""
    pod = Pod()
    with silent_port() as silent:
        async with (
            listening(pod) as ports,
            before(controller, tmp_path, silent, *ports) as client,
        ):
            for _ in range(2):  # one of them meets the silent pod first
                sent = time.time()
                assert (await client.post(PATH, json={})).status_code == 200
                took = time.time() - sent
                assert pod.left[-1] == pytest.approx(WITHIN - took, abs=0.5)
    assert min(pod.left) < WITHIN - 1


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port whose backlog is full: the kernel ignores further connections."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            each = stack.enter_context(socket.socket())
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect(address)
        yield address[1]


FORGED = ("X-Request-Start", "X-Forwarded-For", "Client-Cert")


@pytest.mark.parametrize("controller", CONTROLLERS)
async def test_headers_that_gateways_trust_are_replaced(controller: str, tmp_path: Path) -> None:
    pod = Pod()
    spellings = [spelling for name in FORGED for spelling in (name, name.lower(), name.upper())]
    async with (
        listening(pod) as ports,
        before(controller, tmp_path, *ports) as client,
    ):
        headers = [(name, "forged") for name in spellings * 2]
        assert (await client.post(PATH, json={}, headers=headers)).status_code == 200
    (head,) = pod.heads
    lines = [line.partition(": ") for line in head.lower().splitlines()]
    for name in FORGED:
        values = [value for each, _, value in lines if each == name.lower()]
        assert "forged" not in values
        assert len(values) == 1 or (name, values) == ("Client-Cert", [])
    assert ("x-forwarded-proto", ": ", "https") in lines
