"""Cost by size of the fleet: one pipeline whose fleet grows between measurements.

At each size every client submits twice; the second round is measured, from its first batch until a
scrape includes its last one.
"""

from bench.fleet import Clients, register
from bench.load import Address, Driver
from bench.pipeline import MeasuredPipeline
from bench.processes import Meter
from bench.rounds import Measurements
from bench.running_stack import RunningStack, StackWorkload, running_stack
from tobogganing.devstack.ports import LOOPBACK

CONNECTIONS = 2


async def _round(stack: RunningStack, clients: Clients) -> tuple[float, dict[str, float]]:
    """Let every client submit once; return the seconds and CPU seconds until it is scraped."""
    # The first number is a multiple of the size, so that number - first is the client's.
    start = -(-stack.acknowledged.next // clients.size) * clients.size
    stack.acknowledged.next = start
    work = StackWorkload(stack, clients, clients.size)
    meter = Meter(stack.pids)
    await Driver(Address(LOOPBACK, stack.gateway.port), work, CONNECTIONS).run()
    await stack.scrape(list(stack.last.values()))
    return meter.read()


async def measure(pipeline: MeasuredPipeline, sizes: tuple[int, ...]) -> list[Measurements]:
    """Measure at each size, in growing order.

    Raises:
        WrongResultError: something was lost or is wrong.
    """
    found = []
    async with running_stack(pipeline, Clients(sizes[0])) as stack:
        registered = sizes[0]
        for size in sizes:
            clients = Clients(size)
            if size > registered:
                await register(stack.kafka, clients.records(first=registered))
                registered = size
            await _round(stack, clients)
            seconds, used = await _round(stack, clients)
            end = stack.acknowledged.next
            meter = Meter(stack.pids)
            page = await stack.check(clients, range(end - size, end))
            _, scraping = meter.read()
            figures = Measurements("Growth", "Tobogganing", f"{size:,}")
            figures.add(
                **{f"cpu {name}": spent / size * 1e6 for name, spent in used.items()},
                **{f"MB {name}": value for name, value in stack.memory().items()},
                **{
                    "entities": size,
                    "seconds": seconds,
                    "scrape seconds": page.seconds,
                    "scrape CPU seconds": scraping["exporter"],
                },
            )
            found.append(figures)
    return found
