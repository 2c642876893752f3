"""Workers of one gateway on a real Kafka: one port, one set of metrics, one stop."""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.config.settings import KafkaSettings
from tests.integration.gateways import registered
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN, Service, freeze
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster

WORKERS = 3
RECEIVED = 'tobogganing_gateway_submissions_total{kind="client",result="received"}'
REQUESTS = (
    'tobogganing_manager_http_requests_total{endpoint="/api/v1/clients/{client_id}/metrics",'
    'method="POST",status="200"}'
)
ATTEMPTS = 'tobogganing_manager_auth_attempts_total{result="success",type="api_key"}'
FRAMES = "tobogganing_gateway_frame_submissions_sum"
WAITING = "tobogganing_gateway_waiting_submissions"


def gateway(
    workers: int, kafka: KafkaSettings, folder: Path, signing_keys: str, **extra: str
) -> Service:
    environ = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": signing_keys,
        "RATE_LIMIT_PER_MINUTE": "0",
        "TMPDIR": str(folder),
    }
    return Service(f"tobogganing gateway --workers {workers}", kafka, folder, **environ, **extra)


@pytest.fixture
async def service(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Service]:
    async with gateway(WORKERS, kafka_settings, tmp_path, signing_keys) as service:
        await service.wait_until_ready()
        yield service


def workers_of(service: Service) -> set[int]:
    path = f"/proc/{service.pid}/task/{service.pid}/children"
    return {int(pid) for pid in Path(path).read_text().split()}


async def submit(service: Service, headers: dict[str, str], count: int) -> list[int]:
    """Submit on separate connections, so that every worker gets some."""

    async def one(number: int) -> int:
        async with httpx.AsyncClient(base_url=service.url, timeout=30, trust_env=False) as http:
            body = {"metrics": {"bytes_sent": number}}
            answer = await http.post("/api/v1/clients/c/metrics", json=body, headers=headers)
            return answer.status_code

    return await asyncio.gather(*(one(number) for number in range(count)))


async def scrape(service: Service) -> dict[str, float]:
    """Return all samples as one worker exports them."""
    headers = {"authorization": f"Bearer {METRICS_TOKEN}"}
    async with httpx.AsyncClient(base_url=service.url, timeout=30, trust_env=False) as http:
        text = (await http.get("/metrics", headers=headers)).text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(families) == len(set(families)), "a family is exported twice"
    samples = dict(line.rsplit(" ", 1) for line in lines)
    assert len(samples) == len(lines), "a sample is exported twice"
    return {name: float(value) for name, value in samples.items()}


async def until(service: Service, name: str, value: float) -> None:
    async with asyncio.timeout(10):
        while (await scrape(service)).get(name) != value:
            await pause(0.02)


async def test_metrics_of_all_workers_are_added_up(service: Service) -> None:
    headers = await registered(service, "c")
    assert len(workers_of(service)) == WORKERS
    assert await submit(service, headers, 150) == [200] * 150
    await until(service, WAITING, 0)
    for _ in range(10):
        samples = await scrape(service)
        for name in (RECEIVED, REQUESTS, ATTEMPTS, FRAMES):
            assert samples[name] == 150, name
        assert not any("pid=" in name for name in samples)


async def test_waiting_submissions_are_added_up(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """A gauge: submissions that wait in each worker while Kafka is frozen."""
    broker = own_kafka.brokers[0].process
    assert broker is not None
    patient = {"ANSWER_WITHIN_SECONDS": "9.9"}
    async with gateway(WORKERS, own_settings, tmp_path, signing_keys, **patient) as service:
        await service.wait_until_ready()
        headers = await registered(service, "c")
        assert await submit(service, headers, 30) == [200] * 30
        freeze(broker.pid)
        try:
            flying = asyncio.create_task(submit(service, headers, 12))
            await until(service, WAITING, 12)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert await flying == [200] * 12
        await until(service, WAITING, 0)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), WORKERS])
async def test_metrics_of_an_earlier_run_are_discarded(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, workers: int
) -> None:
    """In a configured folder, which still exists after a kill."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "notes.txt").write_text("not ours")
    chosen = {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    async with gateway(workers, kafka_settings, tmp_path, signing_keys, **chosen) as service:
        await service.wait_until_ready()
        headers = await registered(service, "c")
        assert await submit(service, headers, 20) == [200] * 20
        pids = workers_of(service)
        assert len(pids) == workers
        await service.end(signal.SIGKILL)
        async with asyncio.timeout(15):
            while any(is_running(pid) for pid in pids):
                await pause(0.02)
        assert list(folder.glob("*.db"))
        await service.start()
        await service.wait_until_ready()
        assert await submit(service, headers, 10) == [200] * 10
        await until(service, RECEIVED, 10)
        assert (folder / "notes.txt").exists()


async def test_a_killed_worker_is_replaced_and_its_counters_are_kept(service: Service) -> None:
    headers = await registered(service, "c")
    assert await submit(service, headers, 60) == [200] * 60
    before = workers_of(service)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    # Connections in the backlog are accepted by the other workers.
    assert await submit(service, headers, 60) == [200] * 60
    async with asyncio.timeout(30):
        while len(after := workers_of(service)) < WORKERS or victim in after:
            await pause()
    samples = await scrape(service)
    assert samples[RECEIVED] == samples[REQUESTS] == 120
    for pid in after - before:  # only the new worker, to check that it serves
        others = after - {pid}
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                while (await submit(service, headers, 1)) != [200]:
                    await pause(0.02)
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)


@pytest.mark.parametrize(
    "how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
async def test_a_stop_ends_all_workers_and_completes_accepted_requests(
    service: Service, how: signal.Signals
) -> None:
    headers = await registered(service, "c")
    pids = workers_of(service)
    flying = asyncio.create_task(submit(service, headers, 40))
    async with asyncio.timeout(10):
        while (await scrape(service)).get(RECEIVED, 0) < 40:
            pass
    began = time.monotonic()
    assert await service.end(how) == 0
    assert time.monotonic() - began < 8
    assert await flying == [200] * 40
    assert not any(is_running(pid) for pid in pids)
    assert service.errors() == []


async def test_workers_exit_with_their_parent(service: Service) -> None:
    pids = workers_of(service)
    await service.end(signal.SIGKILL)
    async with asyncio.timeout(15):
        while any(is_running(pid) for pid in pids):
            await pause(0.02)


async def test_invalid_settings_are_reported_once(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    module = f"tobogganing gateway --workers {WORKERS}"
    environ = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": str(tmp_path / "none")}
    async with Service(module, kafka_settings, tmp_path, **environ) as service:
        assert await service.ended(30) == 2
        assert "none" in service.log()


def is_running(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z"
    return False
