"""Pairs of faults: which ones exist, and that both faults happen."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import pairs
from tests.chaos.context import ChaosContext
from tests.chaos.faults import FAULTS, unknown


def test_every_excluded_fault_exists_and_every_exclusion_has_a_reason() -> None:
    for faults, others, reason in pairs.EXCLUSIONS:
        assert (faults | others) <= FAULTS.keys()
        assert reason
    assert FAULTS.keys() >= pairs.OUTAGES


def test_the_pair_that_found_a_fault_is_possible() -> None:
    assert pairs.excluded("cut-network", "broker-freeze") == ""
    assert pairs.excluded("agent-raises", "worker-kill")
    assert pairs.excluded("worker-kill", "agent-raises")
    assert pairs.excluded("worker-kill", "worker-kill")


def test_a_seed_draws_the_same_pairs_and_each_once_before_any_repeats() -> None:
    drawn = pairs.draw([*FAULTS], 200, random.Random(7))
    assert drawn == pairs.draw([*FAULTS], 200, random.Random(7))
    assert len(set(drawn)) == 200
    assert unknown(drawn) == []
    assert unknown(["worker-kill+nonsense"]) == ["nonsense"]
    assert pairs.draw(["worker-kill", "worker-term"], 3, random.Random(1))[2:]
    with pytest.raises(ValueError, match="agent-raises"):
        pairs.draw(["agent-raises", "worker-kill"], 1, random.Random(1))


async def test_both_faults_happen_and_an_error_of_one_does_not_interrupt_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairs, "WITHIN", 0.01)
    ended = []

    async def wrong(context: ChaosContext) -> None:
        assert context.is_paired
        raise AssertionError("wrong")

    async def late(context: ChaosContext) -> None:
        await asyncio.sleep(0.05)
        ended.append(context.rng.random())

    parts: Any = SimpleNamespace(tell=lambda what: None)
    context = ChaosContext(parts, parts, parts, parts, random.Random(3), parts)
    with pytest.raises(AssertionError, match="wrong"):
        await pairs.named("wrong+late", {"wrong": wrong, "late": late}.__getitem__)(context)
    assert len(ended) == 1
