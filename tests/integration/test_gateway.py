"""Gateways on a real Kafka: guarantees about responses, credentials and outages."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from contract.entity import entity_key
from gateway.produce.ack_monitor import NOT_READY_AFTER
from gateway.produce.producer import ResilientProducer
from service.config.settings import KafkaSettings
from service.kafka.clients import admin_client
from service.kafka.registry import RegistryReader
from service.kafka.topics import topics_from
from tests.breakable import ON_THREE
from tests.integration.gateways import (
    DEADLINE,
    find,
    frames_of,
    gateway,
    in_time,
    register,
    registered,
    submit,
)
from tests.integration.processes import ADMIN_TOKEN, Service, freeze
from tests.waiting import pause
from tobogganing.devstack.cluster import Cluster

PATIENCE = 4.0
"""Seconds that a busy machine may need in addition to the guaranteed times."""


async def test_a_new_credential_works_on_every_gateway_at_once(
    pair: tuple[Service, Service],
) -> None:
    for number in range(20):
        here, there = pair if number % 2 else pair[::-1]
        headers = await registered(here, f"c-{number}")
        answer = await submit(there, f"c-{number}", headers, number)
        assert answer.status_code == 200, answer.text


async def test_one_of_two_registrations_of_an_id_wins_on_every_gateway(
    pair: tuple[Service, Service], kafka_settings: KafkaSettings
) -> None:
    ids = [f"c-{number}" for number in range(20)]
    answers = await asyncio.gather(
        *(
            register(service, "clients", name=f"{id} by {n}", type="native", client_id=id)
            for id in ids
            for n, service in enumerate(pair)
        )
    )
    winners = {}
    for id, first, second in zip(ids, answers[::2], answers[1::2], strict=True):
        assert sorted((first.status_code, second.status_code)) == [200, 409]
        winners[id] = first.json() if first.status_code == 200 else second.json()

    fresh = RegistryReader(kafka_settings)
    following = asyncio.create_task(fresh.tailer.run())
    await fresh.tailer.catch_up(10)
    for id, winner in winners.items():
        record = fresh.state.get(entity_key("client", id))
        assert record is not None
        assert record.name == winner["name"]
        headers = {"authorization": f"Bearer {winner['api_key']}"}
        for service in pair:
            assert (await submit(service, id, headers, 1)).status_code == 200
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_frames_contain_the_submissions(
    pair: tuple[Service, Service], kafka_settings: KafkaSettings
) -> None:
    headers = {id: await registered(pair[0], id) for id in (f"c-{n}" for n in range(10))}
    sent = [(id, number) for number in range(30) for id in headers]
    answers = await asyncio.gather(
        *(
            submit(pair[place % 2], id, headers[id], number)
            for place, (id, number) in enumerate(sent)
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    receipts = [answer.json()["receipt"] for answer in answers]
    assert len(set(receipts)) == len(sent)
    frames = await frames_of(kafka_settings)
    assert sum(len(frame.submissions) for frame, _ in frames.values()) == len(sent)
    for (id, number), receipt in zip(sent, receipts, strict=True):
        submission = find(frames, receipt)
        assert (submission.id, submission.metrics) == (id, {"bytes_sent": number})
        assert submission.labels == {"name": id, "type": "native"}


async def test_a_headend_registers_gets_a_token_and_submits(pair: tuple[Service, Service]) -> None:
    a, b = pair
    cluster = await register(a, "clusters", name="K", region="eu", datacenter="fra1")
    cluster_id = cluster.json()["cluster_id"]
    headend = (await register(b, "headends", name="H", cluster_id=cluster_id)).json()
    asked = {"node_id": headend["headend_id"], "node_type": "headend"}
    answer = await a.http.post("/api/v1/auth/token", json=asked | {"api_key": headend["api_key"]})
    headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
    path = f"/api/v1/headends/{headend['headend_id']}/metrics"
    for service in pair:
        body = {"headend_name": "mine", "metrics": {"cpu_usage": 45.2}}
        assert (await service.http.post(path, json=body, headers=headers)).status_code == 200


async def test_a_wrong_credential_is_refused_quickly(pair: tuple[Service, Service]) -> None:
    """The request for the end offset does not wait for the reader's long poll."""
    await registered(pair[0], "c")
    taken = []
    for _ in range(5):
        began = time.monotonic()
        for id in ("c", "nobody"):
            answer = await submit(pair[1], id, {"authorization": "Bearer x"}, 1)
            assert answer.status_code == 401
        taken.append(time.monotonic() - began)
    assert min(taken) < 0.8


async def outage(service: Service, headers: dict[str, str], numbers: range) -> None:
    """Submit during an outage; each request must get 503 by its deadline, with Retry-After."""
    # The first submission detects the outage; a killed broker may have appended it.
    while (await submit(service, "c", headers, 0)).status_code == 200:
        pass
    began = time.monotonic()
    answers = await asyncio.gather(*(submit(service, "c", headers, number) for number in numbers))
    assert time.monotonic() - began < DEADLINE + PATIENCE
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) >= 1


async def until_accepted(service: Service, headers: dict[str, str], number: int) -> str:
    async with asyncio.timeout(40):
        while True:
            answer = await submit(service, "c", headers, number)
            if answer.status_code == 200:
                receipt: str = answer.json()["receipt"]
                return receipt
            assert answer.status_code == 503
            await pause()


@pytest.mark.parametrize("fault", ["killed", pytest.param("frozen", marks=pytest.mark.long)])
async def test_submissions_during_an_outage_get_503_in_time_and_are_never_applied(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str, fault: str
) -> None:
    extra = {"ANSWER_WITHIN_SECONDS": str(DEADLINE)}
    async with gateway(own_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        headers = await registered(service, "c")
        before = (await submit(service, "c", headers, 1)).json()["receipt"]
        broker = own_kafka.brokers[0]
        assert broker.process is not None
        if fault == "killed":
            await broker.kill()
        else:
            freeze(broker.process.pid)

        await outage(service, headers, range(100, 200))
        wrong = await submit(service, "c", {"authorization": "Bearer x"}, 0)
        assert wrong.status_code == 503, "no credential is refused unless the registry was read"
        answer = await register(service, "clients", name="n", type="native")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert (await service.http.get("/-/healthy")).status_code == 200
        not_ready = await service.until("/-/ready", 503)
        assert "kafka" in not_ready.json()["waiting_for"]

        if fault == "killed":
            broker.launch()
            await own_kafka.wait_until_ready()
        else:
            os.kill(broker.process.pid, signal.SIGCONT)
        after = await until_accepted(service, headers, 2)
        await service.wait_until_ready()

        frames = await frames_of(own_settings)
        assert find(frames, before).metrics == {"bytes_sent": 1}
        assert find(frames, after).metrics == {"bytes_sent": 2}
        assert await in_time(own_settings) - {0} == {1, 2}


@ON_THREE
async def test_a_partition_recovers_when_its_leader_returns(
    three_brokers: Cluster, three_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """aiokafka's producer would not recover: it leaves a gap in the sequence numbers."""
    extra = {"ANSWER_WITHIN_SECONDS": str(DEADLINE), "KAFKA_REPLICATION": "1"}
    async with gateway(three_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        ids = [f"c-{number}" for number in range(24)]
        headers = {id: await registered(service, id) for id in ids}

        async def submit_all() -> list[int]:
            answers = await asyncio.gather(*(submit(service, id, headers[id], 1) for id in ids))
            return [answer.status_code for answer in answers]

        assert await submit_all() == [200] * len(ids)
        broker = three_brokers.brokers[-1]
        await broker.kill()
        rounds = [await submit_all() for _ in range(3)]
        assert any(503 in codes for codes in rounds), "no partition lost its leader"
        broker.launch()
        await three_brokers.wait_until_ready()
        async with asyncio.timeout(40):
            while set(await submit_all()) != {200}:
                await pause()
        text = (await service.scrape()).text
        assert "tobogganing_gateway_producer_failures_total 0.0" not in text


@ON_THREE
async def test_a_gateway_is_not_ready_without_in_sync_replicas_and_recovers(
    three_brokers: Cluster, three_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """The remaining broker responds to all requests, and no client submits after the first."""
    extra = {"ANSWER_WITHIN_SECONDS": str(DEADLINE), "KAFKA_REPLICATION": "3"}
    async with gateway(three_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        headers = await registered(service, "c")
        assert (await submit(service, "c", headers, 0)).status_code == 200
        async with admin_client(three_settings) as admin:
            (registry,) = await admin.describe_topics([topics_from(three_settings).registry.name])
        leader = registry["partitions"][0]["leader"]
        others = [broker for broker in three_brokers.brokers if broker.node.id != leader]
        await asyncio.gather(*(broker.kill() for broker in others))
        began = time.monotonic()
        assert (await submit(service, "c", headers, 1)).status_code == 503
        answer = await service.until("/-/ready", 503)
        assert "kafka" in answer.json()["waiting_for"]
        assert time.monotonic() - began < NOT_READY_AFTER + PATIENCE
        while (passed := time.monotonic() - began) < ResilientProducer.send_timeout + PATIENCE:
            answer = await service.http.get("/-/ready")
            if passed > NOT_READY_AFTER + 1:
                assert answer.status_code == 503, "another producer gets no acknowledgement either"
            await pause()
        for broker in others:
            broker.launch()
        await three_brokers.wait_until_ready()
        await service.wait_until_ready()
        assert (await submit(service, "c", headers, 2)).status_code == 200
        # The unconfirmed submission may be applied: the leader may have appended it in time.
        assert await in_time(three_settings) - {1} == {0, 2}


@dataclass
class Stopping:
    """A gateway that is stopped while submissions wait for an unavailable broker."""

    service: Service
    kafka: Cluster
    settings: KafkaSettings
    headers: dict[str, str]

    def freeze_broker(self) -> None:
        freeze(self._broker)

    def thaw_broker(self) -> None:
        os.kill(self._broker, signal.SIGCONT)

    @property
    def _broker(self) -> int:
        process = self.kafka.brokers[0].process
        assert process is not None
        return process.pid

    async def submissions(self, count: int) -> list[asyncio.Task[httpx.Response]]:
        """Submit, and wait until all submissions wait for Kafka."""
        flying = [
            asyncio.create_task(submit(self.service, "c", self.headers, number))
            for number in range(1, count + 1)
        ]
        waiting = f"tobogganing_gateway_waiting_submissions {count}.0\n"
        async with asyncio.timeout(5):
            while waiting not in (await self.service.scrape()).text:
                await pause(0.02)
        return flying

    async def counted(self) -> set[float]:
        """Return the submissions that count."""
        return await in_time(self.settings)


@pytest.fixture
async def stopping(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Stopping]:
    extra = {"ANSWER_WITHIN_SECONDS": "6"}
    async with gateway(own_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        headers = await registered(service, "c")
        assert (await submit(service, "c", headers, 0)).status_code == 200
        yield Stopping(service, own_kafka, own_settings, headers)


async def test_a_stop_completes_all_accepted_requests(stopping: Stopping) -> None:
    stopping.freeze_broker()
    flying = await stopping.submissions(50)
    stopping.service.send(signal.SIGTERM)
    await until_it_does_not_listen(stopping.service)
    stopping.thaw_broker()
    began = time.monotonic()
    answers = await asyncio.gather(*flying)
    assert [answer.status_code for answer in answers] == [200] * 50
    assert await stopping.service.ended() == 0
    assert time.monotonic() - began < PATIENCE
    assert await stopping.counted() == set(range(51))
    assert stopping.service.errors() == []


async def until_it_does_not_listen(service: Service) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            except ConnectionError:
                return
            writer.close()


@pytest.mark.parametrize(
    "fault",
    [
        "frozen",
        pytest.param("frozen to the end", marks=pytest.mark.long),
        pytest.param("killed", marks=pytest.mark.long),
    ],
)
async def test_a_503_during_a_stop_is_never_applied(stopping: Stopping, fault: str) -> None:
    stopping.freeze_broker()
    flying = await stopping.submissions(50)
    if fault == "killed":
        await stopping.kafka.brokers[0].kill()
    began = time.monotonic()
    stopping.service.send(signal.SIGTERM)
    answers = await asyncio.gather(*flying)
    if fault == "frozen":
        # The frames were sent: from now on Kafka would append them.
        stopping.thaw_broker()
    assert [answer.status_code for answer in answers] == [503] * 50
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    assert await stopping.service.ended() == 0
    assert time.monotonic() - began < 6 + PATIENCE
    if fault == "killed":
        stopping.kafka.brokers[0].launch()
        await stopping.kafka.wait_until_ready()
    stopping.thaw_broker()
    assert await stopping.counted() == {0}
    assert stopping.service.errors("aiokafka") == []


async def test_a_second_ctrl_c_sends_no_responses(
    stopping: Stopping,
) -> None:
    stopping.freeze_broker()
    flying = await stopping.submissions(5)
    stopping.service.send(signal.SIGINT)
    await until_it_does_not_listen(stopping.service)
    began = time.monotonic()
    assert await stopping.service.end(signal.SIGINT) == 130
    assert time.monotonic() - began < 3
    answers = await asyncio.gather(*flying, return_exceptions=True)
    assert [isinstance(answer, httpx.TransportError) for answer in answers] == [True] * 5
    stopping.thaw_broker()


async def test_a_stop_without_requests_is_fast_whatever_kafka_does(stopping: Stopping) -> None:
    stopping.freeze_broker()
    began = time.monotonic()
    assert await stopping.service.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < PATIENCE
    assert stopping.service.errors() == []
    stopping.thaw_broker()


async def test_requests_are_accepted_before_kafka_is_available(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    broker = own_kafka.brokers[0]
    await broker.kill()
    extra = {"ANSWER_WITHIN_SECONDS": "1"}
    async with gateway(own_settings, tmp_path, signing_keys, **extra) as service:
        await service.until("/-/healthy", 200)
        not_ready = await service.until("/-/ready", 503)
        assert not_ready.json()["waiting_for"] == ["kafka", "registry"]
        answer = await submit(service, "c", {"authorization": "Bearer x"}, 1)
        assert answer.status_code == 503
        broker.launch()
        await service.wait_until_ready()
        headers = await registered(service, "c")
        assert (await submit(service, "c", headers, 1)).status_code == 200


async def test_metrics_require_the_token(pair: tuple[Service, Service]) -> None:
    assert (await pair[0].http.get("/metrics")).status_code == 401
    text = (await pair[0].scrape()).text
    assert 'tobogganing_manager_certificates_issued_total{type="client"} 0.0' in text
    assert 'tobogganing_manager_certificates_issued_total{type="headend"} 0.0' in text
    assert 'auth_attempts_total{result="failure",type="metrics_token"} 1.0' in text
    assert "_created" not in text


async def test_invalid_settings_are_reported_at_once() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway"),
        env={"PATH": os.environ["PATH"], "PORT": "many", "ANSWER_WITHIN_SECONDS": "12"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await process.communicate()
    lines = output.decode().splitlines()
    assert process.returncode == 2
    for name in (
        "KAFKA_BOOTSTRAP_SERVERS",
        "ADMIN_TOKEN",
        "METRICS_TOKEN",
        "SIGNING_KEYS_DIR",
        "PORT",
    ):
        assert any(name in line for line in lines), lines
    assert any("ANSWER_WITHIN_SECONDS" in line for line in lines)


async def test_the_documented_examples_work_unchanged(
    pair: tuple[Service, Service], tmp_path: Path
) -> None:
    document = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    blocks = [part.split("```")[0] for part in document.split("```sh\n")[1:]]
    assert len(blocks) >= 5
    process = await asyncio.create_subprocess_exec(
        *("sh", "-eu"),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "MANAGER": pair[0].url, "ADMIN_TOKEN": ADMIN_TOKEN},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate("\n".join(blocks).encode())
    assert process.returncode == 0, output.decode()
    assert output.decode().count('"status":"metrics_received"') == 3, output.decode()
    assert '{"accepted":2,"rejected":[],' in output.decode(), output.decode()
