"""24 hours of everything, 7 days of 5-minute averages, years of months: on back-dated data."""

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy import programs
from tests.deploy.compose import ComposeService
from tests.deploy.config import scrape_here
from tests.deploy.stack import PATIENCE, POLL, Stack
from tests.e2e.prometheus import Programs
from tools.debian import Program

LABELS = 'client_id="c1",name="n",type="docker",headless="true"'
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def stack(services: dict[str, ComposeService], tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack(services, folder)
    yield stack
    stack.kill()


class Store:
    """One of the two VictoriaMetrics, started with the file's arguments."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def keep(self, samples: list[tuple[str, float, datetime]]) -> None:
        """Import back-dated samples, and wait until queries return them."""
        lines = [f"{series} {value} {int(at.timestamp() * 1000)}" for series, value, at in samples]
        (
            await self.http.post("/api/v1/import/prometheus", content="\n".join(lines) + "\n")
        ).raise_for_status()
        (await self.http.get("/internal/force_flush")).raise_for_status()

    async def samples(self, name: str) -> dict[datetime, float]:
        """All samples of the one series of that name."""
        answer = await self.http.get("/api/v1/export", params={"match[]": name})
        found: dict[datetime, float] = {}
        for line in answer.text.splitlines():
            series = json.loads(line)
            for value, at in zip(series["values"], series["timestamps"], strict=True):
                found[datetime.fromtimestamp(at / 1000, UTC)] = value
        return found

    async def names(self) -> set[str]:
        (await self.http.get("/internal/force_flush")).raise_for_status()
        answer = await self.http.get("/api/v1/label/__name__/values")
        return set(answer.json()["data"])


@contextlib.asynccontextmanager
async def store(stack: Stack, name: str) -> AsyncIterator[Store]:
    address = f"127.0.0.1:{stack.port(name, '8428')}"
    stack.start_program(name, programs.victoria_metrics(), f"-httpListenAddr={address}")
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=10) as http:
        await until(stack, name, http, "/health")
        yield Store(http)


async def until(stack: Stack, name: str, http: httpx.AsyncClient, path: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            stack.check_running(name)
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(path)).status_code == 200:
                    return
            await asyncio.sleep(POLL)


async def test_the_week_forgets_after_seven_days_and_the_long_store_does_not(stack: Stack) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    ages = [timedelta(hours=1), 6 * DAY, 8 * DAY, 400 * DAY, 3500 * DAY, 3700 * DAY]
    samples = [("aged", age / DAY, now - age) for age in ages]
    async with store(stack, "victoria-week") as week, store(stack, "victoria-long") as long:
        await week.keep(samples)
        await long.keep(samples)
        assert set(await week.samples("aged")) == {now - age for age in ages[:2]}
        assert set(await long.samples("aged")) == {now - age for age in ages[:5]}


def history(now: datetime, days: int) -> Iterator[str]:
    """Three days of a client that sends 60 bytes a minute, as OpenMetrics."""
    yield "# TYPE tobogganing_client_bytes_sent gauge"
    minute = now.replace(second=0) - days * DAY
    count = 0
    while minute <= now:
        yield f"tobogganing_client_bytes_sent{{{LABELS}}} {count} {minute.timestamp():.0f}"
        count += 60
        minute += timedelta(minutes=1)
    yield "# EOF"


def back_date(found: Programs, stack: Stack, now: datetime) -> None:
    """Write blocks of the last three days into Prometheus's volume."""
    file = stack.folder / "history.txt"
    file.write_text("\n".join(history(now, 3)) + "\n", encoding="ascii")
    blocks = stack.volume("prometheus")
    subprocess.run(
        [found.promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", file, blocks],
        check=True,
        timeout=60,
        capture_output=True,
    )


@contextlib.asynccontextmanager
async def prometheus(stack: Stack, found: Programs) -> AsyncIterator[httpx.AsyncClient]:
    (stack.volume("scraper") / "metrics-token").write_text("none", encoding="ascii")
    scrape_here(stack)
    address = f"127.0.0.1:{stack.port('prometheus', '9090')}"
    stack.start_program("prometheus", Program(found.prometheus), f"--web.listen-address={address}")
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=10) as http:
        await until(stack, "prometheus", http, "/-/ready")
        yield http


async def value(http: httpx.AsyncClient, at: datetime) -> str | None:
    query = {"query": "tobogganing_client_bytes_sent", "time": f"{at.timestamp()}"}
    result: list[Any] = (await http.get("/api/v1/query", params=query)).json()["data"]["result"]
    return result[0]["value"][1] if result else None


async def test_prometheus_keeps_a_day_and_passes_averages_and_hours_on(
    stack: Stack, prometheus_programs: Programs
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    back_date(prometheus_programs, stack, now)
    async with (
        store(stack, "victoria-week") as week,
        store(stack, "victoria-long") as long,
        prometheus(stack, prometheus_programs) as http,
    ):
        async with asyncio.timeout(PATIENCE):
            while await value(http, now - 30 * HOUR) is not None:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
        assert await value(http, now - 20 * HOUR) is not None
        sums = await arrived(week, "tobogganing:client_bytes_sent:increase5m")
        assert next(iter(sums.values())) == pytest.approx(300, rel=0.3)
        hours = await arrived(long, "tobogganing:client_bytes_sent:increase1h")
        assert next(iter(hours.values())) == pytest.approx(3600, rel=0.03)
        assert await arrived(long, f'tobogganing:month{{month="{now - HOUR / 2:%Y%m}"}}')
        assert all(re.fullmatch(r"tobogganing:.+5m", name) for name in await week.names())
        pattern = r"tobogganing:(month|.+1h)"
        assert all(re.fullmatch(pattern, name) for name in await long.names())


async def arrived(store: Store, name: str) -> dict[datetime, float]:
    async with asyncio.timeout(PATIENCE):
        while not (found := await store.samples(name)):  # noqa: ASYNC110
            await asyncio.sleep(POLL)
    return found


def hours_of(month: datetime) -> list[datetime]:
    """The end times of the hours of a month."""
    after = (month + 32 * DAY).replace(day=1)
    return [month + n * HOUR for n in range(1, int((after - month) / HOUR) + 1)]


async def test_hours_become_months(stack: Stack) -> None:
    this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = (this_month - DAY).replace(day=1)
    before = (last - DAY).replace(day=1)
    samples = []
    for month, sent in ((before, 10.0), (last, 20.0)):
        for at in hours_of(month):
            label = f'month="{month:%Y%m}"'
            samples.append((f"tobogganing:month{{{label}}}", 1.0, at))
            name = "tobogganing:client_bytes_sent:increase1h"
            samples.append((f"{name}{{{LABELS},{label}}}", sent, at))
            busy = 90.0 if at.day == 15 and at.hour == 12 else 30.0
            name = "tobogganing:headend_cpu_usage_percent:max1h"
            samples.append((f'{name}{{headend_id="h1",{label}}}', busy, at))
    async with store(stack, "victoria-long") as long:
        await long.keep(samples)
        await replay(stack, last - DAY, last + 3 * DAY)
        (await long.http.get("/internal/force_flush")).raise_for_status()
        name = "tobogganing:client_bytes_sent:increase_month"
        whole = await long.samples(f'{name}{{month="{before:%Y%m}"}}')
        assert whole[max(whole)] == 10 * len(hours_of(before))
        # It is written until a day after its end, and never decreases.
        assert last < max(whole) <= last + DAY + HOUR
        assert [whole[at] for at in sorted(whole)] == sorted(whole.values())
        begun = await long.samples(f'{name}{{month="{last:%Y%m}"}}')
        assert begun[last + 10 * HOUR] == 20 * 10
        name = "tobogganing:headend_cpu_usage_percent:max_month"
        peaks = await long.samples(f'{name}{{month="{before:%Y%m}"}}')
        assert peaks[max(peaks)] == 90


async def replay(stack: Stack, start: datetime, end: datetime) -> None:
    """Run the file's rules for past times, as the runbook describes."""
    times = [
        f"-replay.timeFrom={start:%Y-%m-%dT%H:%M:%SZ}",
        f"-replay.timeTo={end:%Y-%m-%dT%H:%M:%SZ}",
    ]
    address = f"-httpListenAddr=127.0.0.1:{stack.port('months', '8880')}"
    stack.start_program("months", programs.vmalert(), *times, "-replay.disableProgressBar", address)
    async with asyncio.timeout(PATIENCE):
        while (code := stack.running["months"].poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL)
    assert code == 0, stack.log("months")[-3000:]
