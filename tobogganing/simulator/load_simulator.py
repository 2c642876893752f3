"""Sends the reports of a simulated fleet on schedule."""

import asyncio
import heapq
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from contract.position import Receipt
from tobogganing.api_client.session import (
    ApiResponse,
    ManagerApi,
    ManagerUnreachableError,
    renewal_time,
)
from tobogganing.backoff import backoff, stopped_before
from tobogganing.simulator.simulated_fleet import Agent, Body, SimulatedHeadend
from tobogganing.simulator.stats import EXPECTED, Latencies, Stats

CONCURRENCY = 64
JITTER = 0.05
"""Share of an interval by which a report may be early or late."""


@dataclass(eq=False)
class SimulatedReporter:
    """An agent with its credential and its next report."""

    agent: Agent
    api_key: str
    due: float
    """Time of its next report, on the monotonic clock."""
    token: str = ""
    renew_at: float = 0.0
    """When to renew `token`, in seconds since the epoch."""
    body: Body | None = None
    """The report, after its first attempt."""
    attempts: int = 0


class LoadSimulator:
    """Sends a report of each agent every `interval` seconds until `stop` is set."""

    def __init__(self, api: ManagerApi, interval: float, stop: asyncio.Event) -> None:
        self.stats = Stats()
        self.recent = Latencies()
        """Latencies since the last line of progress, which replaces the object."""
        self._api = api
        self._interval = interval
        self.stop = stop
        self._schedule: list[tuple[float, int, SimulatedReporter]] = []

    async def run(self, api_keys: Mapping[Agent, str]) -> None:
        """Send reports, evenly spread over the interval, until stopped."""
        now = time.monotonic()
        order = random.sample(list(api_keys), len(api_keys))
        for n, agent in enumerate(order):
            reporter = SimulatedReporter(
                agent, api_keys[agent], due=now + self._interval * n / len(order)
            )
            heapq.heappush(self._schedule, (reporter.due, n, reporter))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(CONCURRENCY, len(order))):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            when, n, reporter = heapq.heappop(self._schedule)
            if self.stop.is_set() or await stopped_before(self.stop, when):
                return
            wait = await self._report(reporter)
            heapq.heappush(self._schedule, (self._next(reporter, wait), n, reporter))

    def _next(self, reporter: SimulatedReporter, wait: float | None) -> float:
        """Time of the next call; `wait` is the seconds before another attempt, if any."""
        now = time.monotonic()
        if wait is not None:
            if now + wait < reporter.due + self._interval:
                return now + wait
            self.stats.given_up += 1
        reporter.body, reporter.attempts = None, 0
        reporter.due = max(reporter.due + self._interval, now)
        return reporter.due + self._interval * random.uniform(-JITTER, JITTER)

    async def _report(self, reporter: SimulatedReporter) -> float | None:
        """Send the report once; return the seconds before another attempt, or None."""
        agent = reporter.agent
        if reporter.body is None:
            reporter.body = agent.report(self._interval)
        reporter.attempts += 1
        try:
            response = (
                await self._renew_token(reporter) if isinstance(agent, SimulatedHeadend) else None
            )
            if response is None:
                path = f"/api/v1/{agent.kind}s/{agent.id}/metrics"
                credential = reporter.token or reporter.api_key
                response = await self._api.request("POST", path, credential, body=reporter.body)
        except ManagerUnreachableError:
            self.stats.unreachable += 1
            return backoff(reporter.attempts, retry_after=0.0)
        self.stats.record_response(response.status, response.seconds)
        self.recent.add(response.seconds)
        if response.status == 200:
            self._accepted(response)
        elif response.status in EXPECTED:
            return backoff(reporter.attempts, response.retry_after)
        else:
            self.stats.note_unexpected(f"{agent.kind} {agent.id}: {response}")
            reporter.token = ""  # the token may be the cause: get another one
        return None

    def _accepted(self, response: ApiResponse) -> None:
        if response.body.get("status") != "metrics_received" or "ignored" in response.body:
            self.stats.note_unexpected(str(response))
        try:
            self.stats.accepted_as(Receipt.parse(str(response.body.get("receipt"))))
        except ValueError as error:
            self.stats.note_unexpected(f"{response}: {error}")

    async def _renew_token(self, reporter: SimulatedReporter) -> ApiResponse | None:
        """Get a token if necessary; return the response if it has none."""
        if reporter.token and time.time() < reporter.renew_at:
            return None
        node = {"node_id": reporter.agent.id, "node_type": reporter.agent.kind}
        body = node | {"api_key": reporter.api_key}
        response = await self._api.request("POST", "/api/v1/auth/token", body=body)
        try:
            renew_at = renewal_time(str(response.body["expires_at"]), time.time())
            reporter.token, reporter.renew_at = str(response.body["access_token"]), renew_at
        except (KeyError, ValueError):
            return response
        return None
