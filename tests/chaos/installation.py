"""The installation under test: brokers, gateways, workers and exporters, all real processes."""

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from service.config.settings import KafkaSettings
from service.kafka.topics import topics_from
from tests.chaos.brokers import Brokers
from tests.chaos.disks import Disk
from tests.chaos.edge import ChaosEdge
from tests.chaos.ports import PORTS
from tests.chaos.supervised_process import Exit, SupervisedProcess
from tobogganing.devstack import process
from tobogganing.devstack.install import install_kafka
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.devstack.process import Process
from tobogganing.devstack.run_config import CHECKOUT
from tobogganing.devstack.secrets import provide_signing_keys
from tobogganing.errors import LocalError

PARTITIONS = 6
METRICS_TOKEN = "metrics-token-of-the-chaos"
ADMIN_TOKEN = "admin-token-of-the-chaos"
POLL = 0.1
ANSWER_WITHIN = 5.0


Tell = Callable[[str], None]


def service_environ(
    folder: Path, servers: str, *, partitions: int, replication: int
) -> dict[str, str]:
    """Return the environment of a service that is tested under faults."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "HOME": os.environ.get("HOME", "/"),
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "KAFKA_PARTITIONS": str(partitions),
        "KAFKA_REPLICATION": str(replication),
        "METRICS_TOKEN": METRICS_TOKEN,
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": str(provide_signing_keys(folder, {})),
        "ANSWER_WITHIN_SECONDS": str(ANSWER_WITHIN),
        "HOST": LOOPBACK,
        "LOG_FORMAT": "json",
        "RATE_LIMIT_PER_MINUTE": "0",
        "AUTH_FAILURES_PER_MINUTE": "0",
        "TRUSTED_PROXIES": LOOPBACK,
        "SWEEP_INTERVAL_SECONDS": "2",
    }


class ChaosService:
    """A gateway, worker or exporter: a supervised process with a port."""

    def __init__(
        self, kind: str, number: int, folder: Path, environ: Mapping[str, str], tell: Tell
    ) -> None:
        self.kind = kind
        self.port = free_ports(1, PORTS)[0]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.folder = folder / f"{kind}-{number}"
        self.folder.mkdir(exist_ok=True)
        self.extra: dict[str, str] = {}
        """Additional environment variables of the next start."""
        self._environ = dict(environ) | {
            "PORT": str(self.port),
            "WORKER_NAME": f"w{number}",
            "TMPDIR": str(self.folder),
        }
        self.member = SupervisedProcess(f"{kind}-{number}", self._launch, tell=tell)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def _launch(self) -> Process:
        with self.log.open("ab") as output:
            return process.start(
                [sys.executable, "-m", "tobogganing", self.kind],
                environ=self._environ | self.extra,
                output=output,
                folder=self.folder,
            )


class Installation:
    """All processes, started once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.brokers = Brokers(folder / "kafka", install_kafka(), self.tell)
        self.gateways: list[ChaosService] = []
        self.workers: list[ChaosService] = []
        self.exporters: list[ChaosService] = []
        self.edge = ChaosEdge(folder)
        self.broker_disk = Disk(folder / "kafka" / "node-3" / "data")
        self.worker_disk = Disk(folder / "processor-1")
        self._keeping: list[asyncio.Task[None]] = []

    @property
    def services(self) -> list[ChaosService]:
        return [*self.gateways, *self.workers, *self.exporters]

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(
            kafka_bootstrap_servers=self.brokers.servers,
            kafka_partitions=PARTITIONS,
            kafka_replication=3,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything and wait until it is ready; stop it at the end."""
        async with self.brokers.network, aiohttp.ClientSession() as self._http:
            try:
                await self.brokers.start()
                self._make_topics()
                await self.brokers.compact_early(self.settings)
                for kind in ("gateway", "processor", "exporter"):
                    for number in (1, 2):
                        self.add(kind, number)
                self.edge.serve(
                    *([s.port for s in each] for each in (self.gateways, self.exporters))
                )
                for member in self.members():
                    self.keep(member)
                await self.wait_until_ready()
                yield
            finally:
                for task in self._keeping:
                    task.cancel()
                await asyncio.gather(*self._keeping, return_exceptions=True)
                self._keep_logs()

    def add(self, kind: str, number: int) -> ChaosService:
        """Create another service. The second of each kind uses the simulated network."""
        near = number == 2
        servers = self.brokers.near_servers if near else self.brokers.servers
        service = ChaosService(
            kind,
            number,
            self.folder,
            self._environ(servers),
            self.tell,
        )
        {"gateway": self.gateways, "processor": self.workers, "exporter": self.exporters}[
            kind
        ].append(service)
        return service

    def keep(self, member: SupervisedProcess) -> asyncio.Task[None]:
        """Start a process and keep it running until the task is cancelled."""
        member.up()
        task = asyncio.create_task(member.keep(), name=member.name)
        self._keeping.append(task)
        return task

    async def some_leader(self, rng: random.Random) -> SupervisedProcess:
        """Return the leader of a random partition of the submissions topic."""
        topic = topics_from(self.settings).submissions.name
        return await self.brokers.leader(self.settings, topic, rng.randrange(PARTITIONS))

    def members(self) -> list[SupervisedProcess]:
        services = (service.member for service in self.services)
        return [*self.brokers.members, *services, self.edge.member]

    def exits(self) -> list[Exit]:
        """Return the processes that ended unexpectedly."""
        return [each for member in self.members() for each in member.exits]

    async def wait_until_ready(self, patience: float = 90.0) -> None:
        """Wait until every broker is in sync and every service is ready.

        Raises:
            LocalError: it took too long.
        """
        waiting = ["brokers"]
        try:
            async with asyncio.timeout(patience):
                await self._wait_for_brokers()
                for service in self.services:
                    waiting = [service.member.name]
                    await self.until_ready(service, patience)
                waiting = [self.edge.member.name]
                while not await self._responds(f"{self.edge.url}/-/ready"):  # noqa: ASYNC110
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise LocalError(f"not ready after {patience:g} s: waiting for {waiting}") from None

    async def until_ready(self, service: ChaosService, patience: float = 60.0) -> None:
        """Wait until a service is ready.

        Raises:
            LocalError: it took too long.
        """
        try:
            async with asyncio.timeout(patience):
                while not await self.ready(service):  # noqa: ASYNC110
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise LocalError(f"{service.member.name} not ready after {patience:g} s") from None

    async def _wait_for_brokers(self) -> None:
        cluster = self.brokers.cluster
        while True:
            if all(broker.is_running for broker in cluster.brokers):
                with contextlib.suppress(LocalError):  # a broker may have ended in the meantime
                    return await cluster.wait_until_ready()
            await asyncio.sleep(POLL)

    async def ready(self, service: ChaosService) -> bool:
        return await self._responds(service.url + "/-/ready")

    async def _responds(self, url: str) -> bool:
        try:
            async with self._http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def _keep_logs(self) -> None:
        """Copy logs out of mounted directories, which disappear with this process."""
        for service in self.services:
            if service.log.exists():
                shutil.copy(service.log, self.folder / f"{service.member.name}.log")

    def tell(self, what: str) -> None:
        """Write an event into the folder's journal."""
        moment = datetime.now(UTC).isoformat()
        with (self.folder / "journal").open("a", encoding="utf-8") as journal:
            journal.write(f"{moment} {what}\n")

    def _make_topics(self) -> None:
        """Create the topics with the product's own command, as an operator would."""
        command = [sys.executable, "-m", "tobogganing", "topics"]
        environ = self._environ(self.brokers.servers)
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=60)

    def _environ(self, servers: str) -> dict[str, str]:
        return service_environ(self.folder, servers, partitions=PARTITIONS, replication=3)
