"""The least that a gateway in Python can cost: a plain ASGI function on uvicorn.

    python -m bench.baseline PORT CLIENTS

It checks a client's key, decodes and validates its submission and answers 200. It has no topic, no
metrics, no limits, no errors worth the name: it loses everything that it acknowledges. Beside it in
the same run, a gateway's cost says the same on a slow machine as on a fast one.
"""

import contextlib
import hmac
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.load import Address, post
from bench.processes import cores, running
from bench.rounds import MeasuredTarget
from bench.workloads import request_heads
from tobogganing.devstack.ports import LOOPBACK, free_ports

NAME = "Plain ASGI function"
_ANSWER = b'{"status":"metrics_received"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]


class _Metrics(msgspec.Struct):
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    connection_uptime: float


class _Body(msgspec.Struct):
    headless: bool
    metrics: _Metrics


class _Item(_Body):
    kind: str
    id: str


class Floor:
    """The ASGI application."""

    def __init__(self, clients: Clients) -> None:
        self._digests = {
            clients.id(n): sha256(clients.credential(n).encode()).hexdigest()
            for n in range(clients.size)
        }
        self._decode = msgspec.json.Decoder(_Body).decode
        self._decode_items = msgspec.json.Decoder(list[_Item]).decode

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        id = scope["path"].split("/")[4] if scope["path"].count("/") > 3 else ""
        status = 200
        if id:
            self._decode(body)
            key = next(value for name, value in scope["headers"] if name == b"authorization")[7:]
            if not hmac.compare_digest(self._digests[id], sha256(key).hexdigest()):
                status = 401
        elif body:
            self._decode_items(body)
        await send({"type": "http.response.start", "status": status, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})


@dataclass
class _Posts:
    """`count` submissions, so many a request."""

    clients: Clients
    count: int
    size: int
    heads: list[bytes]

    def __post_init__(self) -> None:
        self._next = 0

    def next(self) -> tuple[int, bytes] | None:
        number = self._next
        if number == self.count:
            return None
        self._next = last = min(number + self.size, self.count)
        if self.size == 1:
            return number, self.heads[number % self.clients.size] + self.clients.body(number)
        items = b",".join([self.clients.item(each) for each in range(number, last)])
        return number, post("/api/v1/metrics", b"[%b]" % items)

    def answered(self, number: int, status: int, body: bytes) -> None:
        if (status, body) != (200, _ANSWER):
            raise WrongResultError(f"the plain function answered {status}: {body[:500]!r}")

    async def check(self) -> None:
        """There is nothing to be looked at: it has kept nothing."""


@contextlib.asynccontextmanager
async def floor(folder: Path, clients: Clients) -> AsyncIterator[tuple[int, int]]:
    """Run the function on the servers' core; yields its port and its pid."""
    port = free_ports(1)[0]
    async with running(
        [sys.executable, "-m", "bench.baseline", str(port), str(clients.size)],
        environ={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1])},
        log=folder / f"floor-{port}.log",
        ready=f"http://{LOOPBACK}:{port}/",
        core=cores()[0],
    ) as pid:
        yield port, pid


def floor_target(
    server: tuple[int, int], clients: Clients, connections: int, size: int, fresh: bool = False
) -> MeasuredTarget:
    """Submissions into the plain function, so many a request; fresh: a new connection for each."""
    port, pid = server
    heads = request_heads(clients) if size == 1 else []

    def work(count: int) -> _Posts:
        return _Posts(clients, count, size, heads)

    case = "a new connection for each" if fresh else f"{connections} connections"
    share = 0.3 if fresh else 1.0
    address = Address(LOOPBACK, port)
    return MeasuredTarget(
        NAME, case, address, {NAME: pid}, work, connections, fresh=fresh, share=share
    )


def main() -> None:
    port, clients = map(int, sys.argv[1:])
    app = Floor(Clients(clients))
    uvicorn.run(
        app,
        host=LOOPBACK,
        port=port,
        access_log=False,
        proxy_headers=False,
        log_level="error",
        lifespan="off",
    )


if __name__ == "__main__":
    main()
