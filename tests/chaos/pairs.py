"""Pairs of faults: the second one begins within ten seconds of the first, and may
overlap with it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

from tests.chaos.context import ChaosContext, Fault

WITHIN = 10.0
"""Maximum seconds between the starts of the two faults."""
SIGN = "+"
"""Separates the names of a pair, as in `cut-network+broker-freeze`."""

OUTAGES = frozenset(
    {
        "leader-kill",
        "controller-kill",
        "worker-and-leader-kill",
        "broker-rolling",
        "two-brokers-down",
        "all-brokers-down",
        "broker-freeze",
        "broker-disk-full",
        "broker-power-cut",
        "broker-clock",
    }
)
"""Faults that make brokers unavailable for a while."""


class Exclusion(NamedTuple):
    """Faults that cannot overlap with `others` (any fault if that is empty), and the reason."""

    faults: frozenset[str]
    others: frozenset[str]
    reason: str


EXCLUSIONS = (
    Exclusion(
        frozenset({"agent-raises"}),
        frozenset(),
        "it restarts both workers a hundred times and checks each exit; it cannot distinguish the "
        "exits of another fault",
    ),
    Exclusion(
        frozenset({"records-deleted"}),
        OUTAGES | {"worker-joins", "entities-removed"},
        "the model must know exactly which records were deleted unread: no worker may run, the "
        "harness must be able to read Kafka, and no entity may be removed",
    ),
    Exclusion(
        frozenset({"all-brokers-down"}),
        frozenset({"exporter-kill", "exporter-term", "exporter-freeze", "service-rolling"}),
        "it checks a metric that an exporter has only after a response from Kafka",
    ),
    Exclusion(
        frozenset({"entities-removed"}),
        OUTAGES
        | {"gateway-kill", "gateway-term", "gateway-freeze", "gateway-clock"}
        | {"service-rolling"},
        "the registrations that it makes at a gateway are not repeated",
    ),
    Exclusion(
        frozenset({"broker-disk-full"}),
        OUTAGES - {"broker-disk-full"},
        "a broker that is down or frozen does not detect that its disk is full",
    ),
)


def excluded(first: str, second: str) -> str:
    """Return why two faults cannot be a pair; empty if they can."""
    if first == second:
        return "a fault cannot be active twice: the first one to end would end both"
    for faults, others, reason in EXCLUSIONS:
        for one, other in ((first, second), (second, first)):
            if one in faults and (not others or other in others):
                return reason
    return ""


def draw(names: Sequence[str], number: int, rng: random.Random) -> list[str]:
    """Draw pairs of these faults in random order; each pair once before any repeats.

    Raises:
        ValueError: no two of them can be a pair.
    """
    possible = [f"{a}{SIGN}{b}" for a, b in permutations(names, 2) if not excluded(a, b)]
    if not possible:
        raise ValueError(f"no two of {', '.join(names)} can be a pair")
    drawn: list[str] = []
    while len(drawn) < number:
        drawn += rng.sample(possible, len(possible))
    return drawn[:number]


def both(first: Fault, second: Fault, name: str) -> Fault:
    """Return a fault that consists of two."""

    async def fault(context: ChaosContext) -> None:
        delay = context.rng.uniform(0, WITHIN)
        chances = [random.Random(context.rng.random()) for _ in range(2)]
        stages = [replace(context, rng=rng, is_paired=True) for rng in chances]

        async def later() -> None:
            await asyncio.sleep(delay)
            context.tell(f"the second of {name}, after {delay:.1f} s")
            await second(stages[1])

        # Each fault must finish, whatever happens to the other one.
        ends = await asyncio.gather(first(stages[0]), later(), return_exceptions=True)
        for error in ends:
            if error is not None:
                raise error

    return fault


def named(name: str, fault: Callable[[str], Fault]) -> Fault:
    """Return the fault of this name or pair; `fault` returns single faults."""
    first, _, second = name.partition(SIGN)
    return both(fault(first), fault(second), name) if second else fault(first)
