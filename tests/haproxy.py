"""Debian's HAProxy in front of a service, with connections that all clients share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.debian import or_give_up
from tests.nginx import PATIENCE, POLL, listens
from tobogganing.devstack import process
from tobogganing.devstack.ports import free_ports
from tools import debian

CONFIG = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout http-keep-alive 30s
frontend clients
    bind 127.0.0.1:{port}
    default_backend gateway
backend gateway
    http-reuse always
    server gateway 127.0.0.1:{upstream} pool-max-conn 1
"""


@contextlib.asynccontextmanager
async def haproxy(folder: Path, upstream: int) -> AsyncIterator[int]:
    """Run HAProxy until the context ends; yields its port."""
    program = or_give_up(debian.haproxy)
    (port,) = free_ports(1)
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(port=port, upstream=upstream))
    log = folder / "haproxy.log"
    with log.open("wb") as output:
        child = process.start(
            [program.path, "-db", "-f", config], environ=program.environ, output=output
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await listens(port):
                assert child.poll() is None, log.read_text()
                await asyncio.sleep(POLL)
        yield port
    finally:
        await process.stop(child, 5)
