"""The stage: what a fault may touch."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.audit import Recount
from tests.chaos.disks import NotHereError
from tests.chaos.fleet import Fleet
from tests.chaos.installation import Installation
from tests.chaos.load import ChaosLoad
from tests.chaos.model import PipelineModel

__all__ = ["ChaosContext", "Fault", "NotHereError"]


@dataclass
class ChaosContext:
    installation: Installation
    fleet: Fleet
    load: ChaosLoad
    model: PipelineModel
    chance: random.Random
    recount: Recount
    turn: int = 0
    """How many rounds of the fault came before."""
    is_paired: bool = False
    """Another fault happens at about the same time."""

    def tell(self, what: str) -> None:
        self.installation.tell(what)


Fault = Callable[[ChaosContext], Awaitable[None]]
"""Happens, and is over when it returns; the round waits for what has still to recover then.

Raises:
    AssertionError: something was wrong meanwhile.
    NotHereError: it cannot be caused here.
"""
