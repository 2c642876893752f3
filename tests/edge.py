"""The edge with its own file, in front of one gateway: Debian's HAProxy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.debian import or_give_up
from tests.deploy.dns import NameServer
from tests.nginx import PATIENCE, POLL, listens
from tobogganing.devstack import process
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import free_ports
from tools import debian

CONFIG = Path(__file__).parent.parent / "deploy" / "edge" / "haproxy.cfg"


class EdgePorts(NamedTuple):
    http: int
    https: int


@contextlib.asynccontextmanager
async def edge(folder: Path, gateway: int, **environ: str) -> AsyncIterator[EdgePorts]:
    """Run the edge until the context ends; yields its ports. `gateway` is a port on loopback."""
    program = or_give_up(debian.haproxy)
    http, https, own, exporter = free_ports(4)
    certificate = folder / "edge.pem"
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    log = folder / "edge.log"
    async with NameServer() as names:
        names.addresses = {"gateway": ["127.0.0.1"], "exporter": []}
        settings = {
            "EDGE_DNS": names.address,
            "EDGE_HTTP": f"127.0.0.1:{http}",
            "EDGE_HTTPS": f"127.0.0.1:{https}",
            "EDGE_OWN": f"127.0.0.1:{own}",
            "EDGE_CERTIFICATE": str(certificate),
            "GATEWAY_PORT": str(gateway),
            "EXPORTER_PORT": str(exporter),
        }
        with log.open("wb") as output:
            child = process.start(
                [program.path, "-db", "-f", CONFIG],
                environ=program.environ | settings | environ,
                output=output,
            )
        try:
            async with asyncio.timeout(PATIENCE):
                while not await listens(https):
                    assert child.poll() is None, log.read_text()
                    await asyncio.sleep(POLL)
            yield EdgePorts(http, https)
        finally:
            await process.stop(child, 5)
