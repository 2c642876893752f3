"""A broker and the project's own services, with topics for each measurement."""

import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import pinned, running
from service.config.settings import KafkaSettings
from service.kafka.topics import ensure_topics
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import install_kafka
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.devstack.run_config import CHECKOUT
from tobogganing.devstack.secrets import provide_secrets, provide_signing_keys


@dataclass(frozen=True)
class MeasuredService:
    """A running service: its port, and its pids by process name."""

    port: int
    pids: dict[str, int]

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


@dataclass
class Secrets:
    """Secrets for the services of one run, in files."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source in provide_secrets(self.folder, {}):
            self.environ[f"{source.name}_FILE"] = str(source.file)
        self.environ["SIGNING_KEYS_DIR"] = str(provide_signing_keys(self.folder, {}))

    def bearer(self, name: str) -> dict[str, str]:
        """The request header with one of the tokens."""
        return {"authorization": f"Bearer {(self.folder / name).read_text().strip()}"}


class MeasuredPipeline:
    """Starts services on one broker."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.secrets = Secrets(folder / "secrets")
        self._cluster = cluster

    @property
    def broker(self) -> dict[str, int]:
        """The broker's pid by its name."""
        running = self._cluster.brokers[0].process
        assert running is not None
        return {"Kafka": running.pid}

    async def topics(self, partitions: int = 4) -> KafkaSettings:
        """Create a new set of topics."""
        settings = KafkaSettings(
            kafka_bootstrap_servers=self._cluster.bootstrap_servers,
            kafka_topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.",
            kafka_partitions=partitions,
        )
        await ensure_topics(settings)
        return settings

    @contextlib.asynccontextmanager
    async def service(
        self, name: str, kafka: KafkaSettings, core: int | None = None, **extra: str
    ) -> AsyncIterator[MeasuredService]:
        """Run `python -m <name>` until the context ends; yields when it is ready."""
        port = free_ports(1)[0]
        environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environ |= self.secrets.environ
        environ |= {
            "PYTHONPATH": str(CHECKOUT),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.kafka_bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": kafka.kafka_topic_prefix,
            "KAFKA_PARTITIONS": str(kafka.kafka_partitions),
            "HOST": LOOPBACK,
            "PORT": str(port),
            "LOG_LEVEL": "WARNING",
            "WORKER_NAME": "bench",
            # The limits are counted as usual, but never reached.
            "RATE_LIMIT_PER_MINUTE": "1000000000",
            "RELAY_RATE_LIMIT_PER_MINUTE": "1000000000",
            "AUTH_FAILURES_PER_MINUTE": "1000000000",
            **extra,
        }
        async with running(
            [sys.executable, "-m", name],
            environ=environ,
            log=self.folder / f"{name}-{port}.log",
            ready=f"http://{LOOPBACK}:{port}/-/ready",
            core=core,
        ) as pid:
            yield MeasuredService(port, {name: pid})


@contextlib.asynccontextmanager
async def pipeline(folder: Path, core: int | None = None) -> AsyncIterator[MeasuredPipeline]:
    """Run a broker in `folder` until the context ends, on one core if `core` is given."""
    cluster = Cluster(folder / "kafka", install_kafka())
    with pinned(core):
        await cluster.start()
    try:
        yield MeasuredPipeline(cluster, folder)
    finally:
        await cluster.stop()
