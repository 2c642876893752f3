"""The healthy fleet: submits at a constant rate, and must get 200 whatever else happens."""

import asyncio
import time
from collections import deque

from bench.errors import WrongResultError
from bench.load import split_response
from bench.workloads import SingleWorkload
from tobogganing.devstack.ports import LOOPBACK
from tools.first_error import first_error

RATE = 100
"""Submissions per second."""
KEPT = 16
"""Number of persistent connections."""
FRESH = 4
"""Every nth submission uses a new connection."""
PATIENCE = 20.0


class Channel:
    """One connection with one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._port)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self._writer.write(request)
        data = b""
        while (response := split_response(data)) is None:
            more = await self._reader.read(2**20)
            if not more:
                raise WrongResultError("a connection broke before its response")
            data += more
        return response

    def close(self) -> None:
        self._writer.close()


class Healthy:
    """Submits. `seconds` has each response time, measured from the scheduled time.

    An idle connection that was closed is reopened, as every agent does.
    """

    def __init__(self, port: int, work: SingleWorkload) -> None:
        self.seconds: list[float] = []
        self.reopened = 0
        self._port = port
        self._work = work
        self._kept: deque[Channel] = deque()

    async def run(self, seconds: float) -> None:
        """Submit for this time; return when all responses have arrived.

        Raises:
            WrongResultError: a response was not 200, or did not arrive.
        """
        began = time.perf_counter()
        faults = WrongResultError, OSError, TimeoutError
        try:
            with first_error(*faults):
                async with asyncio.TaskGroup() as tasks:
                    for number in range(round(seconds * RATE)):
                        due = began + number / RATE
                        await asyncio.sleep(due - time.perf_counter())
                        tasks.create_task(self._submit(due, fresh=number % FRESH == 0))
        except faults as error:
            raise WrongResultError(f"a healthy agent: {error!r}") from error

    def close(self) -> None:
        while self._kept:
            self._kept.pop().close()

    async def _submit(self, due: float, *, fresh: bool) -> None:
        submission = self._work.next()
        assert submission is not None
        number, request = submission
        async with asyncio.timeout(PATIENCE):
            channel, status, body = await self._ask(request, fresh=fresh)
        self.seconds.append(time.perf_counter() - due)
        self._work.answered(number, status, body)
        if fresh or len(self._kept) >= KEPT:
            channel.close()
        else:
            self._kept.append(channel)

    async def _ask(self, request: bytes, *, fresh: bool) -> tuple[Channel, int, bytes]:
        if self._kept and not fresh:
            channel = self._kept.popleft()
            try:
                return channel, *await channel.ask(request)
            except (WrongResultError, OSError):
                channel.close()
                self.reopened += 1
        channel = Channel(self._port)
        await channel.open()
        return channel, *await channel.ask(request)
