"""The edge with its own configuration, before a gateway or, for comparison, before a peer."""

import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.load import Address
from bench.processes import cores, running
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.devstack.run_config import CHECKOUT
from tools.debian import haproxy
from tools.edge import configuration, edge_environ

_SINGLE_PATHS = re.compile(r"^( *acl single_path path_reg ).*$", re.MULTILINE)
_READ_PATHS = re.compile(r"^ *(acl read|use_backend \S+ if read)\b.*\n", re.MULTILINE)


class RunningEdge(NamedTuple):
    """The address with TLS, and the pid."""

    address: Address
    pid: int


def for_a_peer(text: str) -> str:
    """A configuration that treats every request to a peer as one to a gateway.

    All are single submissions, and a peer is checked by connecting only.
    """
    text = _READ_PATHS.sub("", text).replace("    option httpchk GET /-/ready\n", "")
    return _SINGLE_PATHS.sub(r"\1.", text)


@contextlib.asynccontextmanager
async def running_edge(
    folder: Path, port: int, checkout: Path = CHECKOUT, *, is_peer: bool = False
) -> AsyncIterator[RunningEdge]:
    """Run the edge of a checkout before a port.

    Raises:
        LocalError: HAProxy could not be downloaded.
    """
    program = haproxy()
    http, https, own = free_ports(3)
    text = (checkout / "deploy" / "edge" / "haproxy.cfg").read_text(encoding="utf-8")
    text = configuration(text, {"gateway": [port], "exporter": [port]})
    config, certificate = folder / f"haproxy-{https}.cfg", folder / f"edge-{https}.pem"
    config.write_text(for_a_peer(text) if is_peer else text, encoding="utf-8")
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    address = Address(LOOPBACK, https, ssl.create_default_context(cafile=str(certificate)))
    async with running(
        [program.path, "-db", "-f", config],
        environ=program.environ | edge_environ(http, https, own, certificate),
        log=folder / f"haproxy-{https}.log",
        ready=f"http://{LOOPBACK}:{own}/metrics"
        if is_peer
        else f"http://{LOOPBACK}:{http}/-/ready",
        core=cores()[0],
    ) as pid:
        yield RunningEdge(address, pid)
