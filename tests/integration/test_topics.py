"""Topics on a real Kafka: incomplete ones, and ones that an operator created."""

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidReplicationFactorError, TopicAuthorizationFailedError
from aiokafka.protocol.admin import CreateAclsRequest
from structlog.testing import capture_logs

from contract.topics import Topic
from service.config.settings import KafkaSettings, Secret
from service.kafka.clients import admin_client, client_options
from service.kafka.topic_settings import TopicMismatchError, read_topic_settings
from service.kafka.topics import ensure_topics, watch_topics
from tests.breakable import ON_THREE
from tests.integration.processes import Service
from tests.integration.secured_broker import PASSWORD, USER, WITH_ACLS, secured_broker
from tests.shared_kafka import SharedKafka
from tobogganing.alter_topics import alter_topics
from tobogganing.devstack.install import Install


async def test_missing_brokers_are_waited_for(kafka: SharedKafka, topic_prefix: str) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_replication=3,
    )
    with capture_logs() as said, pytest.raises(InvalidReplicationFactorError):
        await ensure_topics(settings, timeout=1.2)
    assert [line["event"] for line in said].count("waiting for Kafka") >= 2


async def test_a_topic_with_large_segments_causes_a_warning(kafka_settings: KafkaSettings) -> None:
    with capture_logs() as said:
        rows = (await ensure_topics(kafka_settings)).entity_state
        await ensure_topics(kafka_settings)
    assert {line["log_level"] for line in said} == {"info"}
    values = rows.settings | {"segment.bytes": str(2**30)}
    async with admin_client(kafka_settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, rows.name, values)])
    said = []
    async with asyncio.timeout(10):
        while not said:  # until the broker knows it
            with capture_logs() as said:
                await ensure_topics(kafka_settings)
    (warning,) = said
    assert warning["log_level"] == "warning"
    assert (warning["topic"], warning["segment_bytes"]) == (rows.name, 2**30)
    assert f"segment.bytes={rows.settings['segment.bytes']}" in warning["event"]


WRONG = (
    ("registry", "cleanup.policy", "delete", "compact"),
    ("entity_state", "cleanup.policy", "delete", "compact"),
    ("entity_state", "cleanup.policy", "compact,delete", "compact"),
    ("submissions", "cleanup.policy", "compact", "delete"),
    ("submissions", "retention.ms", "3600000", "259200000"),
    ("audit", "retention.ms", "604800000", "7776000000"),
    ("evidence", "retention.ms", "3600000", "604800000"),
    ("submissions", "retention.bytes", "1073741824", "-1"),
    ("registry", "delete.retention.ms", "3600000", "86400000"),
    ("registry", "min.compaction.lag.ms", "0", "3600000"),
    ("submissions", "max.message.bytes", "100000", "1048588"),
    ("submissions", "message.timestamp.type", "CreateTime", "LogAppendTime"),
    ("submissions", "min.insync.replicas", "2", "1"),
)
FINE = (
    ("submissions", "retention.ms", "-1"),
    ("submissions", "retention.ms", "6048000000"),
    ("registry", "delete.retention.ms", "864000000"),
    ("registry", "min.compaction.lag.ms", "7200000"),
    ("entity_state", "max.message.bytes", "8388608"),
    ("dead_letter", "cleanup.policy", ""),
    ("evidence", "cleanup.policy", "delete"),
    ("evidence", "cleanup.policy", "compact"),
)


async def change(settings: KafkaSettings, topic: Topic, **changed: str) -> None:
    """Set these in addition to the declared settings, and wait until the broker reports them."""
    values = topic.settings | {name.replace("_", "."): value for name, value in changed.items()}
    async with admin_client(settings) as admin, asyncio.timeout(20):
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, values)])
        resource = ConfigResource(ConfigResourceType.TOPIC, topic.name)
        while True:
            (answer,) = await admin.describe_configs([resource])
            found = {entry[0]: entry[1] for entry in answer.resources[0][4]}
            if all(found[name] == value for name, value in values.items()):
                return


def dotted(setting: str) -> str:
    return setting.replace(".", "_")


async def test_a_changed_retention_is_applied_by_command(kafka_settings: KafkaSettings) -> None:
    """Other settings stay, such as one that an operator has set."""
    topics = await ensure_topics(kafka_settings)
    own = {"segment.bytes": str(64 << 20)}
    await change(kafka_settings, topics.submissions, segment_bytes=own["segment.bytes"])
    for hours, refused in ((100, True), (48, False)):
        changed = replace(kafka_settings, submissions_retention_hours=hours)
        if refused:
            with pytest.raises(TopicMismatchError, match=r"retention\.ms=259200000 but requires"):
                await ensure_topics(changed)
        else:
            await ensure_topics(changed)
        assert [str(each) for each in await alter_topics(changed)] == [
            f"{topics.submissions.name}  retention.ms: {259200000 if refused else 360000000} -> "
            f"{hours * 3_600_000}"
        ]
        assert await alter_topics(changed) == []
        await ensure_topics(changed)
    async with admin_client(kafka_settings) as admin:
        found = await read_topic_settings(admin, topics.submissions.name)
    assert own.items() <= found.items()
    assert found["message.timestamp.type"] == "LogAppendTime"


async def test_the_command_repairs_refused_settings(kafka_settings: KafkaSettings) -> None:
    topics = await ensure_topics(kafka_settings)
    await change(kafka_settings, topics.registry, cleanup_policy="delete")
    environ = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": kafka_settings.kafka_topic_prefix,
        "KAFKA_PARTITIONS": str(kafka_settings.kafka_partitions),
    }
    for options, status in (([], 2), (["repair", "--json"], 0), ([], 0)):
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tobogganing", "topics", *options),
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await command.communicate()
        assert command.returncode == status, said.decode()
        change_made = {
            "topic": topics.registry.name,
            "setting": "cleanup.policy",
            "before": "delete",
            "after": "compact",
        }
        assert (json.dumps(change_made) in said.decode()) is bool(options)


async def test_a_retention_that_would_delete_unread_submissions_is_refused(
    kafka_settings: KafkaSettings,
) -> None:
    """The partition has a frame, and no ledger counts it."""
    topics = await ensure_topics(kafka_settings)
    shorter = replace(kafka_settings, submissions_retention_hours=48)
    async with AIOKafkaProducer(**client_options(kafka_settings)) as producer:
        await producer.send_and_wait(topics.submissions.name, b"frame", partition=1)
    with pytest.raises(TopicMismatchError, match="no processor has read, in partitions 1: start"):
        await alter_topics(shorter)
    async with admin_client(kafka_settings) as admin:
        found = await read_topic_settings(admin, topics.submissions.name)
    assert found["retention.ms"] == "259200000"


async def test_topics_that_violate_a_requirement_are_rejected(
    kafka_settings: KafkaSettings,
) -> None:
    topics = await ensure_topics(kafka_settings)
    for name, setting, found, wanted in WRONG:
        topic: Topic = getattr(topics, name)
        await change(kafka_settings, topic, **{dotted(setting): found})
        with pytest.raises(TopicMismatchError) as refused:
            await ensure_topics(kafka_settings)
        (line,) = str(refused.value).splitlines()
        assert f"topic {topic.name} has {setting}={found} but requires {wanted}" in line
        assert "Repair it: tobogganing topics repair" in line
        await change(kafka_settings, topic)
    await ensure_topics(kafka_settings)


async def test_more_retention_than_required_is_accepted(kafka_settings: KafkaSettings) -> None:
    topics = await ensure_topics(kafka_settings)
    for name, setting, found in FINE:
        await change(kafka_settings, getattr(topics, name), **{dotted(setting): found})
        await ensure_topics(kafka_settings)


@ON_THREE
async def test_with_three_brokers_each_record_has_two_replicas(
    three_settings: KafkaSettings,
) -> None:
    settings = replace(three_settings, kafka_replication=3)
    topics = await ensure_topics(settings)
    await ensure_topics(settings)
    for setting, found, wanted in (
        ("min.insync.replicas", "1", "2"),
        ("min.insync.replicas", "4", "2"),
        ("unclean.leader.election.enable", "true", "false"),
    ):
        right = {"min_insync_replicas": "2", "unclean_leader_election_enable": "false"}
        await change(settings, topics.registry, **right | {dotted(setting): found})
        with pytest.raises(TopicMismatchError, match=f"{setting}={found} but requires {wanted}"):
            await ensure_topics(settings)
        await change(settings, topics.registry, **right)
    await ensure_topics(settings)
    await ensure_topics(replace(settings, kafka_replication=1))
    single = replace(
        settings, kafka_replication=1, kafka_topic_prefix=f"single-{settings.kafka_topic_prefix}"
    )
    await ensure_topics(single)
    with pytest.raises(TopicMismatchError, match="has 1 replica, but KAFKA_REPLICATION=3"):
        await ensure_topics(replace(single, kafka_replication=3))


async def test_a_service_ends_with_the_command_that_repairs_its_topic(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    topics = await ensure_topics(kafka_settings)
    await change(kafka_settings, topics.registry, cleanup_policy="delete")
    for name in ("exporter", "processor"):
        async with Service(name, kafka_settings, tmp_path) as service:
            assert await service.ended(60) == 2
            (line,) = service.faults()
            assert f"topic {topics.registry.name} has cleanup.policy=delete" in line
            assert "Repair it: tobogganing topics repair" in line


async def test_a_change_while_a_service_runs_is_logged_once(kafka_settings: KafkaSettings) -> None:
    topics = await ensure_topics(kafka_settings)
    with capture_logs() as said:
        task = asyncio.create_task(watch_topics(kafka_settings, interval=0.1))
        try:
            await change(kafka_settings, topics.entity_state, cleanup_policy="delete")
            async with asyncio.timeout(20):
                while not said:  # noqa: ASYNC110 (a log has no event)
                    await asyncio.sleep(0.05)
            await change(kafka_settings, topics.entity_state)
            await change(kafka_settings, topics.registry, cleanup_policy="delete")
            async with asyncio.timeout(20):
                while len(said) < 2:  # noqa: ASYNC110 (as above)
                    await asyncio.sleep(0.05)
        finally:
            task.cancel()
    assert [line["log_level"] for line in said] == ["error"] * 2
    assert topics.entity_state.name in said[0]["reason"]
    assert topics.registry.name in said[-1]["reason"]


async def test_settings_that_cannot_be_read_cause_a_warning(
    kafka_install: Install, tmp_path: Path, topic_prefix: str
) -> None:
    """Brokers with ACLs, and a user without permission for DescribeConfigs."""
    folder = tmp_path / "kafka"
    async with secured_broker(folder, kafka_install, WITH_ACLS, "SASL_PLAINTEXT") as broker:
        everybody = KafkaSettings(
            kafka_bootstrap_servers=broker.superuser, kafka_topic_prefix=topic_prefix
        )
        await ensure_topics(everybody)
        await allow(everybody)
        limited = replace(
            everybody,
            kafka_bootstrap_servers=broker.users,
            kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_username=USER,
            kafka_sasl_password=Secret(PASSWORD),
        )
        async with asyncio.timeout(20):
            await until_allowed(limited)
        with capture_logs() as said:
            topics = await ensure_topics(limited)
        (warning,) = said
        assert warning["log_level"] == "warning"
        assert "allow DescribeConfigs" in warning["event"]
        assert warning["topics"] == sorted(topic.name for topic in topics.all())


async def until_allowed(settings: KafkaSettings) -> None:
    """Wait until the broker has the ACLs."""
    while True:
        with contextlib.suppress(TopicAuthorizationFailedError):
            await ensure_topics(settings)
            return


async def allow(settings: KafkaSettings) -> None:
    """Let the user read, write and describe the topics, and nothing else."""
    async with admin_client(settings) as admin:
        # Kafka's codes for read, write and describe; the other numbers are codes, too
        for operation in (3, 4, 8):
            prefix = settings.kafka_topic_prefix
            request = CreateAclsRequest(2, prefix, 4, f"User:{USER}", "*", operation, 3)
            answer = await admin._send_to_controller(request)
            assert answer.creation_responses[0][0] == 0, answer
