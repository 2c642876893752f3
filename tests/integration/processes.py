"""The services as real processes with their own ports, and rows as a processor writes them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx
from aiokafka import AIOKafkaProducer

from contract.entity import partition_of
from contract.ledger import LedgerRow, encode_ledger_row, ledger_key
from contract.position import Position
from contract.row import POSITION_HEADER, ROW_VERSION, EntityRow, encode_position, encode_row
from service.config.settings import KafkaSettings
from service.kafka.clients import client_options
from service.kafka.topics import ensure_topics, topics_from
from tobogganing.devstack.certificate import self_signed_ca
from tobogganing.devstack.ports import free_ports

METRICS_TOKEN = "metrics-token-of-the-tests"
ADMIN_TOKEN = "admin-token-of-the-tests"
CA_PEM = self_signed_ca(datetime.now(UTC))
POLL = 0.05
NO_CAS: Mapping[str, str] = {"SSL_CERT_FILE": os.devnull}
"""The environment of a process that does not load the machine's CAs, which no test uses. A process
that imports aiohttp loads them twice, in 60 ms."""


def freeze(pid: int) -> None:
    """Freeze a process, and wait until none of its threads runs: until then it may still
    respond.
    """
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    for _ in range(500):
        if all(_is_stopped(thread) for thread in threads.iterdir()):
            return
        time.sleep(0.01)
    raise AssertionError(f"the process {pid} did not stop")


def _is_stopped(thread: Path) -> bool:
    try:
        state = (thread / "stat").read_text().rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has ended since
    return state.split()[0] == "T"


class Service:
    """A service in its own process, as `python -m <module>`; a context manager.

    `module` may include arguments. `http` sends requests to it, with the headers `authorized` if
    METRICS_TOKEN is needed.
    """

    code: Path | None = None
    """Folder of another version of our packages, which the next start runs."""

    authorized: ClassVar = {"authorization": f"Bearer {METRICS_TOKEN}"}

    def __init__(self, module: str, kafka: KafkaSettings, folder: Path, **extra: str) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.module = module
        self._log = folder / f"{module.split()[0]}-{self.port}.log"
        self._environ = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.kafka_bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": kafka.kafka_topic_prefix,
            "KAFKA_PARTITIONS": str(kafka.kafka_partitions),
            "METRICS_TOKEN": METRICS_TOKEN,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "LOG_FORMAT": "json",
            **NO_CAS,
            # Tests are not limited, except those of the limits.
            "RATE_LIMIT_PER_MINUTE": "0",
            "AUTH_FAILURES_PER_MINUTE": "0",
            **extra,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        # Without TLS, no certificates are needed, which take 20 ms to load.
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False, verify=False)
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.end(signal.SIGKILL)
        await self.http.aclose()
        if error is not None:
            error.add_note(f"the log of {self.module} ends with:\n{self.log()[-4000:]}")

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self.module.split()),
                env=self._environ,
                cwd=self.code,
                stdout=log,
                stderr=log,
            )

    async def end(self, how: signal.Signals = signal.SIGTERM, patience: float = 10.0) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.send(how)
        return await self.ended(patience)

    def send(self, signal: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signal)

    async def ended(self, patience: float = 10.0) -> int:
        """Wait for the end; return the exit status."""
        assert self._process is not None
        async with asyncio.timeout(patience):
            return await self._process.wait()

    async def until(self, path: str, status: int, patience: float = 60.0) -> httpx.Response:
        """Send requests until the response has this status.

        Raises:
            AssertionError: it ended, or never responded with it.
        """
        assert self._process is not None
        last: object = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._process.returncode is None:
                    with contextlib.suppress(httpx.TransportError):
                        response = await self.http.get(path)
                        if response.status_code == status:
                            return response
                        last = f"{response.status_code} {response.text}"
                    await asyncio.sleep(POLL)
        raise AssertionError(f"{self.module} never answered {path} with {status}; last: {last}")

    async def wait_until_ready(self) -> None:
        await self.until("/-/ready", 200)

    async def scrape(self, *receipts: str, **headers: str) -> httpx.Response:
        """GET /metrics with the token."""
        return await self.http.get(
            "/metrics", params={"after": receipts}, headers=self.authorized | headers
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def resident_bytes(self) -> int:
        """Memory that the process holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def errors(self, *expected: str) -> list[str]:
        """Lines of level error or critical, except those of the libraries `expected`."""
        lines = [json.loads(line) for line in self.log().splitlines()]
        bad = [line for line in lines if line["level"] in ("error", "critical")]
        return [
            f"{line['logger']}: {line['event']}"
            for line in bad
            if line["logger"].split(".")[0] not in expected
        ]

    def faults(self) -> list[str]:
        """Lines with the reason why it ended itself."""
        return [line for line in self.log().splitlines() if '"level":"critical"' in line]


class RowWriter:
    """Writes to the entity-state topic as a processor does."""

    def __init__(self, settings: KafkaSettings, producer: AIOKafkaProducer) -> None:
        self._topic = topics_from(settings).entity_state.name
        self._source = topics_from(settings).submissions.name
        self._filled: dict[int, int] = {}
        self._partitions = settings.kafka_partitions
        self._producer = producer

    def partition(self, key: str) -> int:
        return partition_of(key.encode(), self._partitions)

    async def row(self, key: str, offset: int, index: int = 0, **values: Any) -> None:
        """Write an entity's row with this position."""
        values = {"incarnation": 0, "last_appended_ms": 0, "last_check_in": 1.5} | values
        row = EntityRow(version=ROW_VERSION, offset=offset, index=index, **values)
        await self.send(self.partition(key), key.encode(), encode_row(row))

    async def tombstone(self, key: str, position: Position) -> None:
        headers = [(POSITION_HEADER, encode_position(position))]
        await self.send(self.partition(key), key.encode(), None, headers)

    async def ledger(
        self, partition: int, offset: int, *, fills: bool = True, **counts: Any
    ) -> None:
        """Write a ledger; with `fills`, the submissions topic gets the records that it covers."""
        while fills and self._filled.get(partition, -1) < offset:
            sent = await self._producer.send_and_wait(self._source, b"-", partition=partition)
            self._filled[partition] = sent.offset
        row = LedgerRow(version=ROW_VERSION, offset=offset, **counts)
        await self.send(partition, ledger_key(partition), encode_ledger_row(row))

    async def send(
        self,
        partition: int,
        key: bytes,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        await self._producer.send_and_wait(
            self._topic, value, key=key, partition=partition, headers=headers
        )

    async def send_all(self, rows: Mapping[str, bytes]) -> None:
        """Write many rows, without waiting for each."""
        sent = [
            await self._producer.send(
                self._topic, value, key=key.encode(), partition=self.partition(key)
            )
            for key, value in rows.items()
        ]
        await asyncio.gather(*sent)


@contextlib.asynccontextmanager
async def row_writer(settings: KafkaSettings) -> AsyncIterator[RowWriter]:
    """Create the topics and a writer to them."""
    await ensure_topics(settings)
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        yield RowWriter(settings, producer)
    finally:
        await producer.stop()
