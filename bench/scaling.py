"""Cost over the size of the fleet: one pipeline, whose fleet grows between measurements.

At each size every client submits once, so that all have a row, and then once more, which is what
is measured: from the first batch until a scrape shows the last one.
"""

from bench.fleet import Clients, register
from bench.load import Address, Driver
from bench.pipeline import MeasuredPipeline
from bench.processes import Meter, Used
from bench.rounds import Measurements
from bench.running_stack import RunningStack, running_stack
from bench.workloads import BatchWorkload
from tobogganing.devstack.ports import LOOPBACK

SUBJECT = "Growth"
CONNECTIONS = 2


class _Noted(BatchWorkload):
    """Batches whose receipts the pipeline notes."""

    everything: RunningStack

    def answered(self, number: int, status: int, body: bytes) -> None:
        self.everything.note_batch(self.receipts(number, status, body), number)


async def _round(everything: RunningStack, clients: Clients) -> Used:
    """Let every client submit once, and wait until a scrape shows the last one."""
    # Numbers start at a multiple of the size, so that client c has the number start + c.
    start = -(-everything.acknowledged.next // clients.size) * clients.size
    everything.acknowledged.next = start
    work = _Noted(everything.acknowledged, clients, clients.size, everything.relay_key)
    work.everything = everything
    meter = Meter(everything.pids)
    await Driver(Address(LOOPBACK, everything.gateway.port), work, CONNECTIONS).run()
    await everything.scrape(list(everything.last.values()))
    return meter.read()


async def measure(pipeline: MeasuredPipeline, sizes: list[int]) -> list[Measurements]:
    """Measure at each size, in growing order.

    Raises:
        WrongResultError: anything was lost or wrong at any size.
    """
    found = []
    async with running_stack(pipeline, Clients(sizes[0])) as everything:
        known = sizes[0]
        for size in sizes:
            clients = Clients(size)
            if size > known:
                await register(everything.kafka, clients.records(first=known))
                known = size
            await _round(everything, clients)
            used = await _round(everything, clients)
            end = everything.acknowledged.next
            meter = Meter(everything.pids)
            page = await everything.check(clients, range(end - size, end))
            scraping = meter.read()
            figures = Measurements(SUBJECT, "Tobogganing", f"{size:,}")
            figures.add(**{f"cpu {name}": s / size * 1e6 for name, s in used.cpu.items()})
            figures.add(**{f"MB {name}": value for name, value in everything.memory().items()})
            figures.add(
                **{
                    "entities": size,
                    "seconds": used.seconds,
                    "scrape seconds": page.seconds,
                    "scrape CPU seconds": scraping.cpu["exporter"],
                }
            )
            found.append(figures)
    return found
