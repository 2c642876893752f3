"""The load: numbered submissions through both gateways, and the outcome of each.

An agent sends one submission at a time. After each response it does what docs/api.md allows:

- 200, 4xx: it sends the next number;
- 503: it sends at once, either the next number or the same again;
- no response, or 502 or 504 of the edge: it sends the same at once, or the next number after the
  deadline; an agent whose reports have timestamps continues at once.

The edge may have sent a submission to a second gateway, because the first has died. Whatever the
response is, the first copy may still be appended until the deadline. After any response of the
edge, an agent without timestamps therefore waits for it before it sends the next number.
"""

import asyncio
import contextlib
import os
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp

from contract.position import Receipt
from tests.chaos.ack_checker import AckChecker
from tests.chaos.fleet import OLD, ChaosAgent, Fleet
from tests.chaos.installation import ANSWER_WITHIN
from tests.chaos.model import Outcome, PipelineModel
from tests.chaos.resets import reset

RATE = float(os.environ.get("RATE") or 150)
"""Submissions per second, approximately."""
TICK = 0.02
BURST = 0.1
"""Seconds' worth of submissions that may be sent at once after a delay of the load."""
BATCH, BACKLOG = (3, 12), (2, 6)
"""Items of a batch, samples of a backlog: minimum and maximum."""
REST = ANSWER_WITHIN + 1.5
"""Seconds after which a submission without a response can no longer take effect."""
PAUSE = 0.2
"""Seconds that an agent waits after a rejection."""
ALLOWED = frozenset({200, 408, 429, 503})
"""Allowed response statuses of a submission under any fault."""

NOT_A_GATEWAYS = frozenset({502, 504})
"""Statuses with which the edge responds if a gateway did not."""

Attempt = tuple[ChaosAgent, int]


class ChaosLoad:
    """Sends until paused. `urls` are the gateways, and `edge` is in front of all of them."""

    def __init__(
        self,
        fleet: Fleet,
        model: PipelineModel,
        urls: Callable[[], Sequence[str]],
        rng: random.Random,
        edge: str | None = None,
    ) -> None:
        self.model = model
        self.submissions = self.acknowledged = 0
        self.acknowledged_at = time.monotonic()
        self.longest_stall = 0.0
        """Longest time without an acknowledgement since `begin`, in seconds."""
        self.statuses: Counter[int] = Counter()
        self.allowed: frozenset[int] = ALLOWED
        self.wrong: list[str] = []
        self.slowest = 0.0
        """Longest response time in seconds."""
        self.rest = REST
        self.resets = 0.0
        """Fraction of requests whose connection is reset before the response."""
        self.answered = AckChecker()
        self.recent: deque[tuple[str, int, Receipt]] = deque(maxlen=50)
        self._fleet = fleet
        self._urls = urls
        self._edge = edge
        self._rng = rng
        self._going = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flying: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN + 4)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._http:
            task = asyncio.create_task(self._run(), name="load")
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, *self._tasks, return_exceptions=True)

    def begin(self) -> None:
        """Send, and measure stalls from now on."""
        self.rest, self.resets, self.allowed = REST, 0.0, ALLOWED
        self.longest_stall, self.acknowledged_at = 0.0, time.monotonic()
        self._going.set()

    async def pause(self) -> None:
        """Stop sending, and wait until the outcome of all submissions is settled."""
        self.note_stall()
        self._going.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)
        until = max(agent.rests_until for agent in self._fleet.agents)
        await asyncio.sleep(max(0.0, until - time.monotonic()))

    def resume(self) -> None:
        """Continue after a pause of a fault; measurements continue as well."""
        self._going.set()

    def note_stall(self) -> None:
        now = time.monotonic()
        self.longest_stall = max(self.longest_stall, now - self.acknowledged_at)

    async def acknowledges(self, number: int) -> None:
        """Wait for this number of further acknowledgements."""
        target = self.acknowledged + number
        while self.acknowledged < target:  # noqa: ASYNC110
            await asyncio.sleep(TICK)

    async def _run(self) -> None:
        budget, last = 0.0, time.monotonic()
        while True:
            await self._going.wait()
            now = time.monotonic()
            budget, last = min(budget + (now - last) * RATE, RATE * BURST), now
            free = self._free() if budget >= 1 else []
            while budget >= 1 and free:
                budget -= self._start(free)
            await asyncio.sleep(TICK)

    def _free(self) -> list[ChaosAgent]:
        """Return the agents that may send, in random order."""
        now = time.monotonic()
        free = [
            agent
            for agent in self._fleet.agents
            if not agent.is_busy and (agent.repeats or agent.rests_until <= now)
        ]
        self._rng.shuffle(free)
        return free

    def _start(self, free: list[ChaosAgent]) -> int:
        """Let one agent, or the relay for several, send; return the number of submissions."""
        agent = free.pop()
        if not agent.relayed:
            number = 1
            if agent.sampler and not agent.repeats and self._rng.random() < 0.3:
                number = self._rng.randint(*BACKLOG)
            self._spawn(self._report(agent, number))
            return number
        wanted = self._rng.randint(*BATCH)
        others = [each for each in free if each.relayed][: wanted - 1]
        for each in others:
            free.remove(each)
        self._spawn(self._relay([agent, *others]))
        return 1 + len(others)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.wrong.append(f"the load failed: {error!r}")

    async def _report(self, agent: ChaosAgent, samples: int) -> None:
        """Send one report of an agent, or a backlog."""
        agent.is_busy = True
        entity = self.model.entities.get(agent.key)
        is_old = (
            not (agent.sampler or agent.repeats)
            and entity is not None
            and entity.acknowledged > 0
            and self._rng.random() < 0.05
        )
        attempts = [
            (agent, self.model.send(agent.key, repeat=agent.repeats, visible=not is_old))
            for _ in range(samples)
        ]
        if agent.sampler:
            bodies = [agent.report(n, self._sample_time(agent)) for _, n in attempts]
            body = bodies[0] if samples == 1 else {"samples": bodies}
        else:
            timestamp = time.time() - OLD if is_old else None
            body = agent.report(attempts[0][1], timestamp)
        try:
            sent = time.monotonic()
            status, answer, by_edge = await self._post(agent.path, agent.credential, body)
            receipts = answer.get("receipts") or [answer.get("receipt")]
            for attempt, receipt in zip(attempts, receipts * samples, strict=False):
                self._settle(attempt, status, receipt if status == 200 else None, sent)
            if by_edge and not agent.sampler:
                agent.rests_until = max(agent.rests_until, sent + self.rest)
        finally:
            agent.is_busy = False

    def _sample_time(self, agent: ChaosAgent) -> float:
        return agent.newest_sample if agent.repeats else agent.next_sample_time()

    async def _relay(self, agents: list[ChaosAgent]) -> None:
        """Send a batch of one report each."""
        for agent in agents:
            agent.is_busy = True
        attempts = [(each, self.model.send(each.key, repeat=each.repeats)) for each in agents]
        items = [
            {"kind": agent.kind, "id": agent.id, **agent.report(number)}
            for agent, number in attempts
        ]
        try:
            sent = time.monotonic()
            status, answer, _ = await self._post("/api/v1/metrics", self._fleet.relay_key, items)
            rejected = {each["index"]: each for each in answer.get("rejected", [])}
            receipts = iter(answer.get("receipts", []))
            for index, attempt in enumerate(attempts):
                if status != 200:
                    self._settle(attempt, status, None, sent)
                elif index not in rejected:
                    self._settle(attempt, 200, next(receipts), sent)
                else:
                    self._settle(attempt, 503 if rejected[index].get("retry") else 400, None, sent)
        finally:
            for agent in agents:
                agent.is_busy = False

    async def _post(
        self, path: str, credential: str, body: Any
    ) -> tuple[int, dict[str, Any], bool]:
        """Send to one gateway or the edge, or to another one if it does not listen.

        Returns the status, the response, and whether it is from the edge; 0 means that no gateway
        listens, -1 that there was no response of a gateway.
        """
        headers = {"Authorization": f"Bearer {credential}"}
        started = time.monotonic()
        for url in self._nearest():
            self._flying[url] += 1
            try:
                if self._rng.random() < self.resets:
                    whole = self._rng.random() < 0.5
                    return await reset(url, path, headers, body, whole=whole), {}, False
                async with self._http.post(url + path, json=body, headers=headers) as answer:
                    content = await answer.json()
                    self.slowest = max(self.slowest, time.monotonic() - started)
                    status = -1 if answer.status in NOT_A_GATEWAYS else answer.status
                    return status, content, url == self._edge
            except (aiohttp.ClientConnectorError, ConnectionRefusedError):
                continue
            except (aiohttp.ClientError, OSError, TimeoutError):
                return -1, {}, False
            finally:
                self._flying[url] -= 1
        return 0, {}, False

    def _nearest(self) -> list[str]:
        """Return the gateways, that with the fewest pending requests first, as a load balancer
        would."""
        urls = [*self._urls(), *([self._edge] if self._edge else [])]
        self._rng.shuffle(urls)
        return sorted(urls, key=lambda url: self._flying[url])

    def _settle(self, attempt: Attempt, status: int, receipt: str | None, sent: float) -> None:
        """Record a response, and decide the agent's next step."""
        agent, number = attempt
        self.submissions += 1
        self.statuses[status] += 1
        agent.repeats = False
        now = time.monotonic()
        if status == 200:
            self._acknowledge(agent, number, Receipt.parse(receipt or ""))
            agent.rests_until = agent.rests_until if agent.rests_until > now else 0.0
            return
        unanswered = status == -1
        outcome = Outcome.UNKNOWN if unanswered or status == 503 else Outcome.REFUSED
        if status > 0 and status not in self.allowed:
            self.wrong.append(f"{agent.key} got the status {status}")
        self.model.settle(agent.key, number, outcome)
        pause = self.rest if unanswered and not agent.sampler else PAUSE
        agent.rests_until = max(agent.rests_until, (sent if unanswered else now) + pause)
        is_hidden = number in self.model.entities[agent.key].never
        agent.repeats = outcome is Outcome.UNKNOWN and not is_hidden and self._rng.random() < 0.5

    def _acknowledge(self, agent: ChaosAgent, number: int, receipt: Receipt) -> None:
        self.note_stall()
        self.acknowledged_at = time.monotonic()
        self.acknowledged += 1
        self.model.settle(agent.key, number, Outcome.ACKNOWLEDGED)
        self.answered.add(receipt, agent.key, number)
        if number not in self.model.entities[agent.key].never:
            self.recent.append((agent.key, number, receipt))
