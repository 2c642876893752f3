"""Gateway, processor and exporter as processes on a real Kafka, and the submissions in its
topic."""

import contextlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord

from contract.frame import decode_frame
from contract.position import Receipt
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.deploy import program_log
from tests.deploy.agents import AgentSample, sample
from tests.integration.processes import ADMIN_TOKEN, Service
from tobogganing.devstack.secrets import provide_signing_keys


class Submitted(NamedTuple):
    """All submissions in Kafka: the samples of each entity (`kind:id`), and the last receipts."""

    samples: dict[str, list[AgentSample]]
    receipts: list[str]

    @property
    def number(self) -> int:
        return sum(map(len, self.samples.values()))

    @property
    def different(self) -> int:
        return sum(len(set(samples)) for samples in self.samples.values())


class DeployedPipeline:
    """The services; a context manager, see `running`."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        keys = provide_signing_keys(folder, {})
        self._kafka = kafka
        self.gateway = Service(
            "gateway",
            kafka,
            folder,
            ADMIN_TOKEN=ADMIN_TOKEN,
            SIGNING_KEYS_DIR=str(keys),
            TOKEN_EXPIRY_HOURS="0.002",
        )
        self.processor = Service("processor", kafka, folder, WORKER_NAME="only")
        self.exporter = Service("exporter", kafka, folder)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["DeployedPipeline"]:
        """Start all services, and wait until they are ready."""
        services = (self.gateway, self.processor, self.exporter)
        async with contextlib.AsyncExitStack() as stack:
            for service in services:
                program_log.note(f"tobogganing {service.module}")
                await stack.enter_async_context(service)
            for service in services:
                await service.wait_until_ready()
            yield self

    async def admin(self, path: str, **body: Any) -> dict[str, Any]:
        """Request a change from the API, with ADMIN_TOKEN."""
        answer = await self.gateway.http.post(
            f"/api/v1/{path}", json=body, headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def register(self, kind: str, id: str) -> str:
        """Register an entity under its id; return its API key."""
        if kind == "client":
            answer = await self.admin("clients/register", name=id, type="native", client_id=id)
        else:
            cluster = await self.admin("clusters/register", name="a", region="eu", datacenter="b")
            body = {"name": id, "headend_id": id, "cluster_id": cluster["cluster_id"]}
            answer = await self.admin("headends/register", **body)
        key: str = answer["api_key"]
        return key

    async def submitted(self) -> Submitted:
        """Read the topic of submissions from its beginning to its end."""
        samples: dict[str, list[AgentSample]] = defaultdict(list)
        last: dict[int, Receipt] = {}

        def collect(partition: int, records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                submissions = decode_frame(record.value).submissions
                for each in submissions:
                    found = sample(each.timestamp, each.metrics)
                    samples[f"{each.kind}:{each.id}"].append(found)
                if submissions:  # a gateway's probe has none, and no receipt
                    last[partition] = Receipt(partition, record.offset, len(submissions) - 1)

        topic = topics_from(self._kafka).submissions.name
        async with TopicReader(self._kafka, topic, range(self._kafka.kafka_partitions)) as reader:
            await reader.read_to_end(collect, {})
        return Submitted(samples, [str(receipt) for receipt in last.values()])

    async def settled(self) -> tuple[Submitted, str]:
        """All submissions, and a scrape that includes exactly these."""
        before = await self.submitted()
        while True:
            scrape = await self.exporter.scrape(*before.receipts)
            after = await self.submitted()
            if after.number == before.number:
                assert scrape.status_code == 200, scrape.text
                return after, scrape.text
            before = after


def total(scrape: str, name: str) -> float:
    """The sum of a family's samples."""
    values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", scrape, re.MULTILINE)
    assert values, name
    return sum(map(float, values))


def shown(scrape: str, name: str, id: str) -> float:
    """The sample of an entity."""
    pattern = rf'^{name}{{.*(?:client|headend)_id="{re.escape(id)}",.*}} (\S+)$'
    (value,) = re.findall(pattern, scrape, re.MULTILINE)
    return float(value)
