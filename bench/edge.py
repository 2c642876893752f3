"""The gateway behind the edge proxy, by TLS, with the edge's own file.

What of the file asks the name server of containers for copies is replaced by an address.
"""

import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from bench.gateway import MeasuredGateway
from bench.load import Address
from bench.pipeline import MeasuredPipeline
from bench.processes import cores, running
from bench.rounds import MeasuredTarget
from bench.workloads import SingleWorkload, request_heads
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.debian import haproxy
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.devstack.run_config import CHECKOUT

SYSTEM = "Tobogganing edge and gateway"
_COPIES = re.compile(r'server-template (\w+) \d+ "\w+:\$\{\w+-\d+\}"')
_LOOKING_UP = " resolvers docker init-addr none resolve-prefer ipv4"


def configuration(text: str, gateway_port: int) -> str:
    """The edge's file with an address in place of each name of copies."""
    text = _COPIES.sub(rf"server \1 {LOOPBACK}:{gateway_port}", text)
    return text.replace(_LOOKING_UP, "")


@contextlib.asynccontextmanager
async def edge(
    gateway: MeasuredGateway, pipeline: MeasuredPipeline
) -> AsyncIterator[list[MeasuredTarget]]:
    """Run the edge; yields what is to be measured through it.

    Raises:
        LocalError: HAProxy could not be had.
    """
    program = haproxy()
    http, https, own = free_ports(3)
    text = (CHECKOUT / "deploy" / "edge" / "haproxy.cfg").read_text(encoding="utf-8")
    file = pipeline.folder / "haproxy.cfg"
    file.write_text(configuration(text, gateway.service.port), encoding="utf-8")
    certificate = pipeline.folder / "edge.pem"
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    trusting = ssl.create_default_context(cafile=str(certificate))
    environ = program.environ | {
        "EDGE_HTTP": f"{LOOPBACK}:{http}",
        "EDGE_HTTPS": f"{LOOPBACK}:{https}",
        "EDGE_OWN": f"{LOOPBACK}:{own}",
        "EDGE_CERTIFICATE": str(certificate),
    }
    async with running(
        [program.path, "-db", "-f", file],
        environ=environ,
        log=pipeline.folder / "haproxy.log",
        ready=f"http://{LOOPBACK}:{http}/-/ready",
        core=cores()[0],
    ) as pid:
        pids = {"HAProxy": pid} | gateway.service.pids | pipeline.broker
        address = Address(LOOPBACK, https, trusting)
        heads = request_heads(gateway.clients)

        def work(count: int) -> SingleWorkload:
            return SingleWorkload(gateway.acknowledged, gateway.clients, count, heads)

        kept = MeasuredTarget(SYSTEM, "TLS, 32 connections, API keys", address, pids, work, 32)
        fresh = MeasuredTarget(
            SYSTEM,
            "TLS, a new connection for each, API keys",
            address,
            pids,
            work,
            32,
            fresh=True,
            share=0.1,
        )
        yield [kept, fresh]
