"""The faults, by name. Each happens, and is over when its function returns; what is still to
recover then is waited for by the round."""

import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.installation import Installation, Service
from tests.chaos.load import Load
from tests.chaos.model import Model
from tests.chaos.watcher import Watcher


@dataclass
class Stage:
    """What a fault may touch."""

    installation: Installation
    load: Load
    watcher: Watcher
    model: Model
    chance: random.Random


Fault = Callable[[Stage], Awaitable[None]]


def ends(kind: str, how: signal.Signals) -> Fault:
    """One process of a kind ends, and is started again at once."""

    async def fault(stage: Stage) -> None:
        services: list[Service] = getattr(stage.installation, kind)
        await stage.chance.choice(services).member.restart(how)

    return fault


FAULTS: dict[str, Fault] = {
    f"{kind}-{name}": ends(f"{kind}s", how)
    for kind in ("gateway", "worker", "exporter")
    for name, how in (("kill", signal.SIGKILL), ("term", signal.SIGTERM))
}
