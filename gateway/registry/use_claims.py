"""Claims of an enrolment's uses, for all agents that wait at this gateway at once.

A thousand agents that changed one counter would each lose a thousand races. A gateway has one claim
of an enrolment in flight and claims for everybody who has come since the last. What it claimed and
does not use, because it is killed or a registration fails, is lost and never given twice.
"""

import asyncio
import time
from typing import NamedTuple

import structlog

from contract.enrolment import claimable_uses, with_claimed
from contract.registry import RegistryRecord
from gateway.registry.writer import RegistryWriter, UnconfirmedError
from service.tasks import cancel

log = structlog.get_logger(__name__)

_Incarnation = tuple[bytes, int | None]


class _Waiter(NamedTuple):
    granted: asyncio.Future[bool]
    deadline: float


class UseClaims:
    """Claims uses, by the rules of contract.enrolment."""

    def __init__(self, registry: RegistryWriter) -> None:
        self._registry = registry
        self._waiting: dict[_Incarnation, list[_Waiter]] = {}
        self._tasks: dict[_Incarnation, asyncio.Task[None]] = {}

    async def claim(self, enrolment: RegistryRecord, deadline: float) -> bool:
        """Claim a use of `enrolment`; return False if none is left, or it was revoked.

        `deadline` is on the monotonic clock.

        Raises:
            UnconfirmedError: Kafka did not confirm it by the deadline. The use may be lost.
        """
        key = enrolment.key, enrolment.incarnation
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(_Waiter(granted, deadline))
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._run(key), name="claim uses")
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await granted
        except TimeoutError as error:
            raise UnconfirmedError("Kafka did not confirm the claim in time") from error

    async def stop(self) -> None:
        """End all claims."""
        await cancel(*self._tasks.values())

    async def _run(self, key: _Incarnation) -> None:
        """Claim until no request waits."""
        waiters: list[_Waiter] = []
        try:
            while True:
                waiters += self._waiting.pop(key, [])
                waiters = [waiter for waiter in waiters if not waiter.granted.done()]
                if not waiters:
                    return
                try:
                    waiters = await self._claim_for(key, waiters)
                except UnconfirmedError as error:
                    waiters = _fail(waiters, error)
        except Exception as error:  # whatever failed, nobody may wait forever
            log.exception("claim failed", key=key[0].decode())
            _fail(waiters + self._waiting.pop(key, []), UnconfirmedError(repr(error)))
        finally:
            del self._tasks[key]

    async def _claim_for(self, key: _Incarnation, waiters: list[_Waiter]) -> list[_Waiter]:
        """Claim uses for those who wait; return those who still wait, as another claim was first.

        Raises:
            UnconfirmedError: Kafka did not confirm the claim.
        """
        if not self._registry.is_current:
            raise UnconfirmedError("the registry is being read")
        current = self._registry.state.get(key[0])
        if current is None or current.incarnation != key[1]:
            return _resolve(waiters, 0)
        count = claimable_uses(current, len(waiters))
        if not count:
            return _resolve(waiters, 0)
        claimed = with_claimed(current, count, self._registry.time.earliest_ms())
        deadline = max(waiter.deadline for waiter in waiters)
        if not await self._registry.change(current, claimed, deadline):
            return waiters
        return _resolve(waiters, count)


def _resolve(waiters: list[_Waiter], count: int) -> list[_Waiter]:
    """Grant `count` uses and refuse the other waiters; none of them waits any more."""
    waiting = [waiter for waiter in waiters if not waiter.granted.done()]
    for place, waiter in enumerate(waiting):
        waiter.granted.set_result(place < count)
    return []


def _fail(waiters: list[_Waiter], error: UnconfirmedError) -> list[_Waiter]:
    """Let the claims of all waiters fail; none of them waits any more."""
    for waiter in waiters:
        if not waiter.granted.done():
            waiter.granted.set_exception(error)
    return []
