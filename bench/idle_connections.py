"""`python -m bench.idle_connections`: the edge's memory of idle connections with TLS."""

import asyncio
import json
import logging
import ssl
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
import uvloop

from bench.errors import WrongResultError
from bench.processes import resident_bytes, running
from bench.tls_client import TlsConnection
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tools.debian import haproxy
from tools.edge import edge_environ, write_configuration

AT_ONCE = 100
"""Handshakes at a time."""
REQUEST = b"GET /-/metrics HTTP/1.1\r\nHost: edge\r\n\r\n"
"""HAProxy itself responds, with 404."""


async def _open(context: ssl.SSLContext, port: int) -> TlsConnection:
    """Open a connection, and wait for the response to one request."""
    loop = asyncio.get_running_loop()
    responded: asyncio.Future[bytes] = loop.create_future()

    def on_data(data: bytes) -> None:
        if not responded.done():
            responded.set_result(data)

    def on_lost(error: Exception | None) -> None:
        if not responded.done():
            responded.set_exception(WrongResultError(f"a connection was closed: {error!r}"))

    _, connection = await loop.create_connection(
        lambda: TlsConnection(context, "localhost", on_data, on_lost), LOOPBACK, port
    )
    connection.write(REQUEST)
    if not (await responded).startswith(b"HTTP/1.1 404"):
        raise WrongResultError("the edge did not respond with 404")
    return connection


async def measure(folder: Path, connections: int) -> dict[str, float]:
    """Return the memory of the edge without and with this number of idle connections."""
    program = haproxy()
    http, https, own, nothing = free_ports(4)
    config, certificate = folder / "haproxy.cfg", folder / "edge.pem"
    write_configuration(config, {"gateway": [nothing], "exporter": [nothing]})
    text = config.read_text(encoding="utf-8")  # they take longer to open than the edge keeps them
    config.write_text(text.replace(" 90s\n", " 1h\n"), encoding="utf-8")
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    context = ssl.create_default_context(cafile=str(certificate))
    async with running(
        [program.path, "-db", "-f", config],
        environ=program.environ | edge_environ(http, https, own, certificate),
        log=folder / "log",
        ready=f"http://{LOOPBACK}:{own}/metrics",
        core=None,
    ) as pid:
        await _open(context, https)
        before = resident_bytes(pid)
        kept: list[TlsConnection] = []
        while len(kept) < connections:
            number = min(AT_ONCE, connections - len(kept))
            kept += await asyncio.gather(*(_open(context, https) for _ in range(number)))
        if closed := sum(connection.transport.is_closing() for connection in kept):
            raise WrongResultError(f"{closed} connections were closed too early")
        after = resident_bytes(pid)
    return {
        "connections": connections,
        "MB before": before / 1e6,
        "MB": after / 1e6,
        "bytes a connection": (after - before) / connections,
    }


@click.command()
@click.option("--connections", default=10_000, show_default=True, type=click.IntRange(min=1))
def main(connections: int) -> None:
    """Measure; print one JSON object."""
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="bench-idle-") as folder:
        try:
            found = uvloop.run(measure(Path(folder), connections))
        except WrongResultError as error:
            print(f"WRONG: {error}", file=sys.stderr)
            raise SystemExit(1) from None
    print(json.dumps(found))


if __name__ == "__main__":
    main()
