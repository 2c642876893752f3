"""The open loop for peers, directly and behind the same edge."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench import peers
from bench.edge import RunningEdge, running_edge
from bench.fleet import Clients
from bench.load import Address, Workload
from bench.open_loop_driver import CLIENTS, EDGE, PEER_LOADS, SUBJECT, WARM_UP, Load, OpenLoop
from bench.processes import Meter
from bench.rounds import MeasuredTarget, Measurements, percentile


class _PeerSubject:
    """Sends one workload of a peer."""

    def __init__(self, work: Workload, address: Address, edge: RunningEdge) -> None:
        self.sent = work.first
        self._work = work
        self._addresses = {False: address, True: edge.address}

    def address(self, edge: bool) -> Address:
        return self._addresses[edge]

    def request(self, number: int) -> bytes:
        return self._work.request(number, number + 1)

    def responded(self, number: int, status: int, body: bytes) -> None:
        self._work.answered(number, status, body)


async def _run(target: MeasuredTarget, edge: RunningEdge, load: Load, seconds: float) -> OpenLoop:
    work = target.work(round(load.rate * seconds))
    loop = OpenLoop(_PeerSubject(work, target.address, edge), load)
    await loop.run(seconds)
    await work.check()
    return loop


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.asynccontextmanager
async def _running_peers(folder: Path) -> AsyncIterator[list[tuple[MeasuredTarget, RunningEdge]]]:
    clients = Clients(CLIENTS)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        targets = [
            peers.import_target(await enter(peers.victoria(folder)), clients, 1),
            peers.push_target(await enter(peers.pushgateway(folder, checks=False)), clients, 1),
        ]
        if (program := peers.build_collector()) is not None:
            targets.append(
                peers.otlp_target(await enter(peers.collector(program, folder)), clients, 1)
            )
        yield [
            (each, await enter(running_edge(folder, each.address.port, is_peer=True)))
            for each in targets
        ]


async def measure_peers(
    folder: Path, seconds: float, rounds: int, loads: Sequence[Load] = PEER_LOADS
) -> list[Measurements]:
    """Measure each available peer under each load.

    Raises:
        WrongResultError: a response is wrong, or something pushed is not shown.
        LocalError: a peer could not be downloaded.
    """
    _make(folder)
    found: dict[tuple[str, Load], Measurements] = {}
    async with _running_peers(folder) as running:
        for number in range(rounds + 1):
            for target, edge in running:
                for load in loads:
                    if not number:
                        await _run(target, edge, load, WARM_UP)
                        continue
                    pids = target.pids | ({EDGE: edge.pid} if load.edge else {})
                    meter = Meter(pids)
                    loop = await _run(target, edge, load, seconds)
                    used, ordered = meter.read()[1], sorted(loop.seconds)
                    key = target.system, load
                    each = found.setdefault(key, Measurements(SUBJECT, target.system, load.case))
                    each.add(
                        **{f"cpu {name}": cpu / len(ordered) * 1e6 for name, cpu in used.items()},
                        **{
                            "answer p50 ms": percentile(ordered, 0.5) * 1e3,
                            "answer p99 ms": percentile(ordered, 0.99) * 1e3,
                        },
                    )
    return [*found.values()]
