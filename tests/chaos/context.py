"""The context of a fault: the objects that it may use."""

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
    rng: random.Random
    recount: Recount
    turn: int = 0
    """Number of earlier rounds of the fault."""
    is_paired: bool = False
    """Whether another fault happens at about the same time."""

    def tell(self, what: str) -> None:
        self.installation.tell(what)


Fault = Callable[[ChaosContext], Awaitable[None]]
"""Causes a fault and returns when it is over; the round then waits for the recovery.

Raises:
    AssertionError: something was wrong during the fault.
    NotHereError: the fault cannot be caused on this machine.
"""
