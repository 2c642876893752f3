"""Power cuts: a broker is killed, and data that was not flushed to its disk is lost."""

import random
import signal
from collections.abc import Iterable
from pathlib import Path

from contract.topics import Topic
from service.kafka.topics import topics_from
from tests.chaos.context import ChaosContext
from tests.chaos.supervised_process import holding

TAIL = 64 * 1024
"""Bytes that may be cut off a partition: about a second of this load."""
SHARE = 0.7
"""Fraction of partitions that lose their end."""


async def broker_power_cut(context: ChaosContext) -> None:
    """Kill the leader of a partition and cut the ends of its logs.

    Two of three brokers have each acknowledged record, so nothing may be lost.
    """
    leader = await context.installation.some_leader(context.rng)
    brokers = context.installation.brokers
    broker = brokers.cluster.brokers[brokers.members.index(leader)]
    async with holding(leader):
        await leader.down(signal.SIGKILL)
        try:
            topics = topics_from(context.installation.settings)
            cut = cut_tails(broker.folder / "data", topics.all(), context.rng)
            context.tell(f"{leader.name} lost the tails of {cut}")
        finally:
            leader.up()
    assert cut, f"{leader.name} had no tail to lose"


def cut_tails(data: Path, topics: Iterable[Topic], rng: random.Random) -> dict[str, int]:
    """Cut bytes off the newest segments of some partitions; return their number by partition."""
    cut = {}
    for topic in topics:
        for folder in sorted(data.glob(f"{topic.name}-*")):
            segments = sorted(folder.glob("*.log"))
            is_deleted = not folder.name.rpartition("-")[2].isdigit()
            if is_deleted or not segments or rng.random() > SHARE:
                continue
            size = segments[-1].stat().st_size
            if size == 0:
                continue
            lost = rng.randint(1, min(size, TAIL))
            with segments[-1].open("r+b") as segment:
                segment.truncate(size - lost)
            cut[folder.name] = lost
    return cut
