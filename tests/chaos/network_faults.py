"""Network faults: slow, held and cut connections, and clients that reset theirs."""

import asyncio

from tests.chaos.context import ChaosContext
from tests.chaos.installation import ANSWER_WITHIN

DELAY = (0.05, 0.4)
SLOW, CUT, RESETS = 10.0, 10.0, 6.0
"""Seconds."""
HELD = ANSWER_WITHIN + 3.0
"""Seconds for which data is held back; its deadline passes in that time."""
SHARE = 0.3
"""Fraction of requests that are reset."""


async def slow_network(context: ChaosContext) -> None:
    """Delay the traffic between the second service of each kind and the brokers."""
    network = context.installation.brokers.network
    network.delay = context.rng.uniform(*DELAY)
    context.tell(f"the network takes {network.delay:.3f} s each way")
    try:
        await asyncio.sleep(SLOW)
    finally:
        network.delay = 0.0


async def held_network(context: ChaosContext) -> None:
    """Hold the traffic between the second service of each kind and the brokers; then it arrives
    late."""
    network = context.installation.brokers.network
    network.hold()
    try:
        await asyncio.sleep(HELD)
    finally:
        network.release()


async def cut_network(context: ChaosContext) -> None:
    """Cut all connections between the second service of each kind and the brokers."""
    network = context.installation.brokers.network
    network.cut()
    try:
        await asyncio.sleep(CUT)
    finally:
        network.restore()


async def resets(context: ChaosContext) -> None:
    """Clients reset connections, some after half a request, some after a whole one."""
    context.load.resets = SHARE
    try:
        await asyncio.sleep(RESETS)
    finally:
        context.load.resets = 0.0
