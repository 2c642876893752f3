"""The network of this machine, which a Docker engine changes and does not restore."""

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
BRIDGE = "docker0"
FIREWALLS = ("iptables", "ip6tables")


@contextlib.contextmanager
def restored_network(environ: Mapping[str, str]) -> Iterator[None]:
    """At the end, restore IP forwarding and the firewall, and remove the engine's bridge.

    `environ` has the PATH of iptables.
    """
    forwarding = FORWARDING.read_text(encoding="ascii")
    has_bridge = (Path("/sys/class/net") / BRIDGE).exists()
    rules = {name: _run(environ, f"{name}-save") for name in FIREWALLS}
    try:
        yield
    finally:
        FORWARDING.write_text(forwarding, encoding="ascii")
        for name, before in rules.items():
            for table in _tables(_run(environ, f"{name}-save")) - _tables(before):
                _empty(environ, name, table)
            _run(environ, f"{name}-restore", input=before)
        if not has_bridge:
            _run(environ, "ip", "link", "delete", BRIDGE)


def _tables(rules: str) -> set[str]:
    return set(re.findall(r"^\*(\S+)", rules, re.M))


def _empty(environ: Mapping[str, str], name: str, table: str) -> None:
    """Remove all rules and chains of a table that did not exist before."""
    chains = re.findall(r"^:(\S+) (?!-)", _run(environ, f"{name}-save", "-t", table), re.M)
    for chain in chains:
        _run(environ, name, "-t", table, "-P", chain, "ACCEPT")
    for option in ("-F", "-X"):
        _run(environ, name, "-t", table, option)


def _run(environ: Mapping[str, str], *words: str, input: str = "") -> str:
    done = subprocess.run(
        words, env=dict(environ), input=input, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
