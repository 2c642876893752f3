"""The minimum cost of a gateway in Python: a plain ASGI function on uvicorn.

    python -m bench.baseline PORT CLIENTS

It checks a client's key, decodes and validates the submission, and responds 200. It keeps nothing.
The ratio of a gateway's cost to it is comparable between machines.
"""

import contextlib
import hmac
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from bench.errors import WrongResultError
from bench.fleet import Clients
from bench.gateway import FRESH
from bench.load import Address, Workload, post
from bench.processes import cores, running
from bench.rounds import MeasuredTarget
from bench.workloads import request_heads
from tobogganing.devstack.ports import LOOPBACK, free_ports

NAME = "Plain ASGI function"
_RESPONSE = b'{"status":"metrics_received"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_RESPONSE))]


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


class PlainFunction:
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
        await send({"type": "http.response.body", "body": _RESPONSE})


class _Submissions(Workload):
    def __init__(self, clients: Clients, count: int, size: int, heads: list[bytes]) -> None:
        super().__init__(0, count, size)
        self._clients, self._heads = clients, heads

    def request(self, first: int, last: int) -> bytes:
        if self._heads:
            return self._heads[first % self._clients.size] + self._clients.body(first)
        items = b",".join([self._clients.item(each) for each in range(first, last)])
        return post("/api/v1/metrics", b"[%b]" % items)

    def answered(self, number: int, status: int, body: bytes) -> None:
        if (status, body) != (200, _RESPONSE):
            raise WrongResultError(f"the plain function responded {status}: {body[:500]!r}")


@contextlib.asynccontextmanager
async def plain_function(folder: Path, clients: Clients) -> AsyncIterator[tuple[int, int]]:
    """Run the function on the servers' core; yields its port and its pid."""
    port = free_ports(1)[0]
    async with running(
        [sys.executable, "-m", "bench.baseline", str(port), str(clients.size)],
        environ={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1])},
        log=folder / f"plain-{port}.log",
        ready=f"http://{LOOPBACK}:{port}/",
        core=cores()[0],
    ) as pid:
        yield port, pid


def plain_target(
    server: tuple[int, int], clients: Clients, connections: int, size: int, fresh: bool = False
) -> MeasuredTarget:
    """Requests of `size` submissions each; with `fresh` on a new connection for each."""
    port, pid = server
    heads = request_heads(clients) if size == 1 else []
    return MeasuredTarget(
        NAME,
        FRESH if fresh else f"{connections} connections",
        Address(LOOPBACK, port),
        {NAME: pid},
        lambda count: _Submissions(clients, count, size, heads),
        connections,
        fresh=fresh,
        share=0.3 if fresh else 1.0,
    )


def main() -> None:
    port, clients = map(int, sys.argv[1:])
    uvicorn.run(
        PlainFunction(Clients(clients)),
        host=LOOPBACK,
        port=port,
        access_log=False,
        proxy_headers=False,
        log_level="error",
        lifespan="off",
    )


if __name__ == "__main__":
    main()
