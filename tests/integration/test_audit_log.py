"""The audit log is correct even if Kafka confirms nothing: tests with a real, frozen broker."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from contract.audit import AuditRecord, decode_audit
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.command_line import CommandLine
from tests.integration.gateways import gateway, register, registered
from tests.integration.processes import Service, freeze
from tests.waiting import eventually
from tobogganing.devstack.cluster import Cluster


def logged(service: Service) -> list[dict[str, Any]]:
    """Return the audit lines of a gateway's log."""
    lines = [json.loads(line) for line in service.log().splitlines()]
    return [line for line in lines if line["event"] == "audit"]


async def recorded(settings: KafkaSettings) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    async with TopicReader(settings, topics_from(settings).audit.name, [0]) as reader:
        await reader.read_to_end(
            lambda _, found: records.extend(decode_audit(each.value) for each in found), {}
        )
    return records


def process_of(cluster: Cluster) -> int:
    process = cluster.brokers[0].process
    assert process is not None
    return process.pid


async def test_an_unconfirmed_change_is_not_audited_as_done(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    async with gateway(own_settings, tmp_path, signing_keys, ANSWER_WITHIN_SECONDS="1") as service:
        await service.wait_until_ready()
        await registered(service, "there")
        assert [line["outcome"] for line in logged(service)] == ["attempted", "done"]
        await asyncio.to_thread(freeze, process_of(own_kafka))
        try:
            answers = await asyncio.gather(
                *(
                    register(service, "clients", name="n", type="native", client_id=f"n-{n}")
                    for n in range(5)
                )
            )
        finally:
            os.kill(process_of(own_kafka), signal.SIGCONT)
        assert [answer.status_code for answer in answers] == [503] * 5
        outcomes = Counter(line["outcome"] for line in logged(service)[2:])
        assert outcomes == {"attempted": 5, "refused": 5}

        async def is_amended() -> bool:
            said: dict[str, list[str]] = {}
            for record in (await recorded(own_settings))[1:]:
                said.setdefault(record.request, []).append(record.outcome.value)
            return len(said) == 5 and all(each[-1] == "refused" for each in said.values())

        await eventually(is_amended)


async def test_retries_of_a_command_register_only_once(
    own_kafka: Cluster, own_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    async with gateway(own_settings, tmp_path, signing_keys, ANSWER_WITHIN_SECONDS="1") as service:
        await service.wait_until_ready()
        await asyncio.to_thread(freeze, process_of(own_kafka))
        try:
            command = CommandLine(service.url)
            adding = asyncio.create_task(command("clients", "add", "A", "--type", "native"))

            async def is_repeated() -> bool:
                lines = logged(service)
                return [line["outcome"] for line in lines].count("attempted") >= 2

            await eventually(is_repeated)
        finally:
            os.kill(process_of(own_kafka), signal.SIGCONT)
        ended = await adding
        targets = {line["target"] for line in logged(service)}
        assert len(targets) == 1
        (target,) = targets
        assert target.removeprefix("client:") in ended.out + ended.err
