"""Other systems that take pushes and show them to Prometheus, from Debian's packages.

They get what a client submits to us: six gauges with the same names and labels.
"""

import asyncio
import contextlib
import gzip
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import WrongResultError
from bench.fleet import UNIT, Clients
from bench.load import Address, Driver, post
from bench.processes import cores, running
from bench.rounds import MeasuredTarget
from bench.scraping import fetch
from contract.kinds import CLIENT
from tobogganing.devstack.debian import unpacked, victoria_metrics
from tobogganing.devstack.ports import LOOPBACK, free_ports

CHECK_IN = 1_700_000_000
SHOWN_WITHIN = 30.0
"""Seconds that a peer may take to show what it has taken."""
_ENVIRON = {"PATH": "/usr/bin:/bin"}
_SHOWN = re.compile(
    rb'^tobogganing_client_bytes_sent\{[^}]*client_id="client-(\d+)"[^}]*\} (\S+)', re.MULTILINE
)


class _PushNumbers:
    """Numbers of pushes that go on over rounds."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> int:
        first = self.next
        self.next += count
        return first


@dataclass(frozen=True)
class Peer:
    """A running system, empty at first."""

    name: str
    port: int
    pid: int
    page: str
    """Path that shows everything as Prometheus reads it."""
    numbers: _PushNumbers = field(default_factory=_PushNumbers)
    showing: int | None = None
    """Port of that page, where it is another one."""

    @property
    def address(self) -> Address:
        return Address(LOOPBACK, self.port)

    @property
    def page_port(self) -> int:
        return self.port if self.showing is None else self.showing


def shown_values(clients: Clients, number: int) -> dict[str, float]:
    """A client's six gauges by their names."""
    values = {**clients.metrics(number), CLIENT.last_check_in.field: CHECK_IN + number}
    return {family.name: values[family.field] for family in CLIENT.families}


def gauges(clients: Clients, number: int, *, with_id: bool, typed: bool) -> bytes:
    """A client's six gauges as text; with `typed`, each after a line with its type."""
    labels = clients.labels(number)
    if with_id:
        labels = {CLIENT.id_label: clients.id(number), **labels}
    shown = ",".join(f'{name}="{value}"' for name, value in labels.items())
    lines = []
    for name, value in shown_values(clients, number).items():
        if typed:
            lines.append(f"# TYPE {name} gauge\n")
        lines.append(f"{name}{{{shown}}} {value}\n")
    return "".join(lines).encode()


@dataclass
class Pushes:
    """`count` pushes, so many of them a request; what the peer shows is checked at the end."""

    peer: Peer
    clients: Clients
    first: int
    count: int
    request: Callable[[int, int], bytes]
    """Makes the request of the pushes from one number to before another."""
    size: int = 1
    _next: int = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.first
        self._end = self.first + self.count

    def next(self) -> tuple[int, bytes] | None:
        first = self._next
        if first == self._end:
            return None
        self._next = last = min(first + self.size, self._end)
        return first, self.request(first, last)

    def answered(self, number: int, status: int, body: bytes) -> None:
        if status not in (200, 202, 204):
            raise WrongResultError(f"{self.peer.name} answered {status}: {body[:500]!r}")

    async def check(self) -> None:
        """Wait until one gauge of every client is one that was pushed of it just now.

        Of two pushes of a client on two connections the one that was sent first may come last.
        """
        deadline = time.monotonic() + SHOWN_WITHIN
        while (wrong := await self._wrong()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        if wrong:
            raise WrongResultError(f"{self.peer.name} shows {wrong[0]}; {len(wrong)} are wrong")

    async def _wrong(self) -> list[str]:
        if self.peer.page.startswith("/federate"):
            await fetch(self.peer.port, "/internal/force_flush")
        page = await fetch(self.peer.page_port, self.peer.page)
        shown = {int(id): int(float(value)) - UNIT for id, value in _SHOWN.findall(page.body)}
        pushed = range(self.first, self._end)
        return [
            f"push {last} of client {client} in place of push {number}"
            for number in pushed[-self.clients.size :]
            if (last := shown.get(client := number % self.clients.size, -1)) not in pushed
            or last % self.clients.size != client
        ]


@contextlib.asynccontextmanager
async def pushgateway(folder: Path, *, checks: bool) -> AsyncIterator[Peer]:
    """Run a Pushgateway, with its consistency checks as by default or without."""
    (package,) = unpacked("prometheus-pushgateway")
    port = free_ports(1)[0]
    command: list[str | Path] = [
        package / "usr/bin/prometheus-pushgateway",
        f"--web.listen-address={LOOPBACK}:{port}",
        f"--web.local-assets={package}/usr/share/prometheus/pushgateway",
        "--persistence.file=",
        "--log.level=error",
        *([] if checks else ["--push.disable-consistency-check"]),
    ]
    async with running(
        command,
        environ=_ENVIRON,
        log=folder / f"pushgateway-{port}.log",
        ready=f"http://{LOOPBACK}:{port}/-/ready",
        core=cores()[0],
    ) as pid:
        name = "Pushgateway" + ("" if checks else ", checks off")
        yield Peer(name, port, pid, "/metrics")


@contextlib.asynccontextmanager
async def victoria(folder: Path) -> AsyncIterator[Peer]:
    """Run a single-node VictoriaMetrics."""
    port = free_ports(1)[0]
    command: list[str | Path] = [
        victoria_metrics().path,
        f"-httpListenAddr={LOOPBACK}:{port}",
        f"-storageDataPath={folder}/victoria-{port}",
        "-loggerLevel=ERROR",
        "-search.maxUniqueTimeseries=10000000",
        "-search.maxFederateSeries=10000000",
        # Samples that were just taken are shown at once, as by all others here.
        "-search.latencyOffset=0s",
    ]
    async with running(
        command,
        environ=_ENVIRON,
        log=folder / f"victoria-{port}.log",
        ready=f"http://{LOOPBACK}:{port}/health",
        core=cores()[0],
    ) as pid:
        page = "/federate?match[]={client_id!=%22%22}"
        yield Peer("VictoriaMetrics", port, pid, page)


def peer_target(
    peer: Peer,
    clients: Clients,
    connections: int,
    request: Callable[[int, int], bytes],
    size: int = 1,
    share: float = 1.0,
    case: str = "",
) -> MeasuredTarget:
    """Pushes of so many clients each; `request` as in Pushes."""

    def work(count: int) -> Pushes:
        return Pushes(peer, clients, peer.numbers.take(count), count, request, size)

    case = f"{connections} connections{case}"
    pids = {peer.name: peer.pid}
    return MeasuredTarget(peer.name, case, peer.address, pids, work, connections, share=share)


def push_target(
    peer: Peer, clients: Clients, connections: int, share: float = 1.0
) -> MeasuredTarget:
    """One client a push into a Pushgateway, each client a group."""

    def request(first: int, _: int) -> bytes:
        path = f"/metrics/job/bench/{CLIENT.id_label}/{clients.id(first)}"
        return post(path, gauges(clients, first, with_id=False, typed=True))

    groups = f", {clients.size:,} groups"
    return peer_target(peer, clients, connections, request, share=share, case=groups)


def import_target(peer: Peer, clients: Clients, connections: int, size: int = 1) -> MeasuredTarget:
    """Imports into VictoriaMetrics, of so many clients each."""

    def request(first: int, last: int) -> bytes:
        lines = [gauges(clients, n, with_id=True, typed=False) for n in range(first, last)]
        return post("/api/v1/import/prometheus", b"".join(lines))

    return peer_target(peer, clients, connections, request, size)


async def fill(target: MeasuredTarget, clients: Clients, *, check: bool = True) -> None:
    """Push every client once, outside any measurement."""
    work = target.work(clients.size)
    await Driver(target.address, work, target.connections).run()
    if check:
        await work.check()


def versions() -> dict[str, str]:
    """Debian's versions of what stands beside us, as its packages' changelogs say."""
    found = {}
    for package in ("prometheus-pushgateway", "victoria-metrics", "haproxy"):
        (folder,) = unpacked(package)
        (log,) = (folder / "usr/share/doc" / package).glob("changelog.Debian.gz")
        with gzip.open(log, "rt", encoding="utf-8") as text:
            found[package] = text.readline().partition("(")[2].partition(")")[0]
    return found
