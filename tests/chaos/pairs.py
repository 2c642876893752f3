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
        "it restarts both workers a hundred times and judges each exit: another fault would be "
        "judged as one of its own",
    ),
    Exclusion(
        frozenset({"records-deleted"}),
        OUTAGES | {"worker-joins", "entities-removed"},
        "the model must know exactly what was deleted unread: no worker runs, the harness itself "
        "reads Kafka to the end, and no removal of an entity may be among it",
    ),
    Exclusion(
        frozenset({"all-brokers-down"}),
        frozenset({"exporter-kill", "exporter-term", "exporter-freeze", "service-rolling"}),
        "it looks at the age that exporters which have seen Kafka show",
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
        "a broker that is down or frozen does not notice that its disk is full",
    ),
)


def excluded(first: str, second: str) -> str:
    """Return why two faults cannot be a pair; empty if they can."""
    if first == second:
        return "a fault has one switch, which the first to end would turn off for both"
    for faults, others, reason in EXCLUSIONS:
        for one, other in ((first, second), (second, first)):
            if one in faults and (not others or other in others):
                return reason
    return ""


def draw(names: Sequence[str], number: int, chance: random.Random) -> list[str]:
    """Draw pairs of these faults in random order; each pair once before any repeats.

    Raises:
        ValueError: no two of them can be a pair.
    """
    possible = [f"{a}{SIGN}{b}" for a, b in permutations(names, 2) if not excluded(a, b)]
    if not possible:
        raise ValueError(f"no two of {', '.join(names)} can be a pair")
    drawn: list[str] = []
    while len(drawn) < number:
        drawn += chance.sample(possible, len(possible))
    return drawn[:number]


def both(first: Fault, second: Fault, name: str) -> Fault:
    """Return a fault that consists of two."""

    async def fault(context: ChaosContext) -> None:
        delay = context.chance.uniform(0, WITHIN)
        chances = [random.Random(context.chance.random()) for _ in range(2)]
        stages = [replace(context, chance=chance, is_paired=True) for chance in chances]

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
