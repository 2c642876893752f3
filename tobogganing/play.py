"""Playing: every agent reports on schedule until told to stop."""

import asyncio
import heapq
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from contract.position import Receipt
from tobogganing.fleet import Agent, Body, Headend
from tobogganing.manager_api import Answer, ManagerApi, UnreachableError, renewal_time
from tobogganing.pace import backoff, stopped_before
from tobogganing.tally import EXPECTED, Latencies, Tally

AT_ONCE = 64
JITTER = 0.05
"""How much of an interval a report may be early or late."""


@dataclass(eq=False)
class Reporter:
    """An agent with its credential, and the report that it is about to send."""

    agent: Agent
    api_key: str
    due: float
    """When its report is due, on the monotonic clock."""
    token: str = ""
    renew_at: float = 0.0
    """When to renew `token`, in seconds since the epoch."""
    body: Body | None = None
    """The report, once it was tried."""
    attempts: int = 0


class Player:
    """Lets agents report every `interval` seconds; setting `stop` ends it."""

    def __init__(self, api: ManagerApi, interval: float, stop: asyncio.Event) -> None:
        self.tally = Tally()
        self.recent = Latencies()
        """Latencies since whoever shows them has replaced it."""
        self._api = api
        self._interval = interval
        self._stop = stop
        self._schedule: list[tuple[float, int, Reporter]] = []

    async def run(self, api_keys: Mapping[Agent, str]) -> None:
        """Play, evenly spread over the interval, until stopped."""
        now = time.monotonic()
        order = random.sample(list(api_keys), len(api_keys))
        for n, agent in enumerate(order):
            reporter = Reporter(agent, api_keys[agent], due=now + self._interval * n / len(order))
            heapq.heappush(self._schedule, (reporter.due, n, reporter))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, len(order))):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            when, n, reporter = heapq.heappop(self._schedule)
            if self._stop.is_set() or await stopped_before(self._stop, when):
                return
            wait = await self._report(reporter)
            heapq.heappush(self._schedule, (self._next(reporter, wait), n, reporter))

    def _next(self, reporter: Reporter, wait: float | None) -> float:
        """When it is to be called again; `wait`: seconds before another attempt, if any."""
        now = time.monotonic()
        if wait is not None:
            if now + wait < reporter.due + self._interval:
                return now + wait
            self.tally.given_up += 1
        reporter.body, reporter.attempts = None, 0
        reporter.due = max(reporter.due + self._interval, now)
        return reporter.due + self._interval * random.uniform(-JITTER, JITTER)

    async def _report(self, reporter: Reporter) -> float | None:
        """Try to send the report; return after how many seconds to try again, if at all."""
        agent = reporter.agent
        if reporter.body is None:
            reporter.body = agent.report(self._interval)
        reporter.attempts += 1
        try:
            answer = await self._renew_token(reporter) if isinstance(agent, Headend) else None
            if answer is None:
                path = f"/api/v1/{agent.kind}s/{agent.id}/metrics"
                credential = reporter.token or reporter.api_key
                answer = await self._api.post(path, reporter.body, credential)
        except UnreachableError:
            self.tally.unreachable += 1
            return backoff(reporter.attempts, retry_after=0.0)
        self.tally.answered(answer.status, answer.seconds)
        self.recent.add(answer.seconds)
        if answer.status == 200:
            self._accepted(answer)
        elif answer.status in EXPECTED:
            return backoff(reporter.attempts, answer.retry_after)
        else:
            self.tally.surprised(f"{agent.kind} {agent.id}: {answer}")
            reporter.token = ""  # if that was the fault, the next report comes with another
        return None

    def _accepted(self, answer: Answer) -> None:
        if answer.body.get("status") != "metrics_received" or "ignored" in answer.body:
            self.tally.surprised(str(answer))
        try:
            self.tally.accepted_as(Receipt.parse(str(answer.body.get("receipt"))))
        except ValueError as error:
            self.tally.surprised(f"{answer}: {error}")

    async def _renew_token(self, reporter: Reporter) -> Answer | None:
        """Fetch a token where the one at hand does not last; return an answer that has none."""
        if reporter.token and time.time() < reporter.renew_at:
            return None
        node = {"node_id": reporter.agent.id, "node_type": reporter.agent.kind}
        answer = await self._api.post("/api/v1/auth/token", node | {"api_key": reporter.api_key})
        try:
            renew_at = renewal_time(str(answer.body["expires_at"]), time.time())
            reporter.token, reporter.renew_at = str(answer.body["access_token"]), renew_at
        except (KeyError, ValueError):
            return answer
        return None
