"""The edge's own configuration, with addresses instead of names of containers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tobogganing.devstack.ports import LOOPBACK
from tobogganing.devstack.run_config import CHECKOUT

CONFIG = CHECKOUT / "deploy" / "edge" / "haproxy.cfg"
_COPIES = re.compile(r'^( +)server-template (\w+) \d+ "\w+:\$\{\w+-\d+\}"$', re.MULTILINE)
_RESOLVERS = " resolvers docker init-addr none resolve-prefer ipv4"


def configuration(text: str, ports: Mapping[str, Sequence[int]]) -> str:
    """Replace the lookups of copies by servers on these ports of this machine.

    `ports` are of each kind of service, such as `gateway`.
    """

    def servers(match: re.Match[str]) -> str:
        indent, kind = match.groups()
        lines = [f"{indent}server {kind}{n} {LOOPBACK}:{p}" for n, p in enumerate(ports[kind], 1)]
        return "\n".join(lines)

    return _COPIES.sub(servers, text).replace(_RESOLVERS, "")


def write_configuration(file: Path, ports: Mapping[str, Sequence[int]]) -> None:
    file.write_text(configuration(CONFIG.read_text(encoding="utf-8"), ports), encoding="utf-8")


def edge_environ(http: int, https: int, own: int, certificate: Path) -> dict[str, str]:
    """Return the variables with the ports and the certificate of an edge on this machine."""
    return {
        "EDGE_HTTP": f"{LOOPBACK}:{http}",
        "EDGE_HTTPS": f"{LOOPBACK}:{https}",
        "EDGE_OWN": f"{LOOPBACK}:{own}",
        "EDGE_CERTIFICATE": str(certificate),
    }
