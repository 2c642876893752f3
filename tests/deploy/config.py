"""Configurations of a clone, with the addresses and intervals of a test."""

import re
from pathlib import Path

from tests.deploy.compose import ROOT
from tests.deploy.stack import Stack

DNS = re.compile(
    r"dns_sd_configs:\n"
    r" +- \{ names: \[(?P<name>\w+)\], type: A, port: (?P<port>\d+), refresh_interval: 10s \}"
)
TOKEN = "/run/tobogganing/metrics-token"


def folder_of(stack: Stack, service: str, target: str) -> Path:
    """The folder of the clone that a service reads as `target`."""
    (mount,) = (mount for mount in stack.services[service].mounts if mount.target == target)
    folder = Path(mount.source)
    assert ROOT not in folder.parents, "this would change the checkout"
    return folder


def scrape_here(stack: Stack) -> None:
    """Point Prometheus to the stack on this machine, with intervals of seconds instead of
    minutes."""
    folder = folder_of(stack, "prometheus", "/etc/prometheus")
    file = folder / "prometheus.yml"
    text = file.read_text(encoding="utf-8")
    assert TOKEN in text
    text = text.replace(TOKEN, stack.here(stack.services["prometheus"], TOKEN))
    text = re.sub(r"_interval: 15s", "_interval: 500ms", text).replace(": 10s", ": 500ms", 1)
    text = stack.addresses(text.replace("localhost:9090", "prometheus:9090"))

    def target(found: re.Match[str]) -> str:
        port = stack.port(found["name"], found["port"])
        return f'static_configs:\n      - targets: ["127.0.0.1:{port}"]'

    text, number = DNS.subn(target, text)
    assert number == 3
    file.write_text(text, encoding="utf-8")
    for name in ("averages", "hours"):
        faster(folder / "rules" / f"{name}.yml")


def faster(rules: Path) -> None:
    """Evaluate groups every second; the ranges of their queries stay."""
    text, number = re.subn(r"    interval: \w+", "    interval: 1s", rules.read_text("utf-8"))
    assert number
    rules.write_text(text, encoding="utf-8")
