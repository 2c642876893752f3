"""The processes of one local run: Kafka, or an existing one, and the services."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from service.config.settings import KafkaSettings, load_settings
from service.kafka.topics import ensure_topics
from service.tasks import cancel
from tobogganing.devstack import process
from tobogganing.devstack.banner import banner
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import FLUSH_EACH_APPEND
from tobogganing.devstack.local_run import published_urls
from tobogganing.devstack.log_mux import LogMux
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.devstack.preflight import wrong_settings
from tobogganing.devstack.process import Process
from tobogganing.devstack.prometheus import LocalPrometheus
from tobogganing.devstack.readiness import REMIND_AFTER, wait_until_ready
from tobogganing.devstack.run_config import RunConfig
from tobogganing.devstack.secrets import SecretSource
from tobogganing.devstack.supervisor import SupervisedPart, Supervisor
from tobogganing.disk_space import full
from tobogganing.errors import LocalError

KAFKA_PATIENCE = 180.0
"""Seconds for Kafka's start on a busy machine."""

Step = Callable[[KafkaSettings], Awaitable[None]]


class LocalStack:
    """One run, from the start of Kafka to the stop of all parts."""

    def __init__(
        self, config: RunConfig, environ: Mapping[str, str], install: Install | None, mux: LogMux
    ) -> None:
        self._config = config
        self._environ = dict(environ)
        self._install = install
        self._mux = mux
        self._supervisor = Supervisor(mux.write_line)
        self._stop = asyncio.Event()
        self._published = contextlib.ExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def run_kafka(self) -> None:
        """Run Kafka alone until a signal."""
        await self._until_stopped(self._only_kafka())

    async def run_services(
        self,
        sources: Sequence[SecretSource],
        prometheus: LocalPrometheus | None,
        before_services: Step | None = None,
    ) -> None:
        """Run everything until a signal; `before_services` is awaited when the topics exist."""
        await self._until_stopped(self._services(sources, prometheus, before_services))

    async def _until_stopped(self, start: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        starting = asyncio.create_task(start, name="start")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for a stop")
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await stopping
        finally:
            # Also retrieves an error that the start may end with when it is cancelled.
            await cancel(starting)
            self._published.close()
            await cancel(*self._tasks)
            await self._supervisor.stop()
        self._mux.write_line("stopped")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._supervisor.kill()
            os._exit(130)
        self._mux.write_line("stopping (Ctrl-C again: at once)")
        self._stop.set()

    async def _only_kafka(self) -> None:
        servers = await self._start_kafka()
        self._mux.write_line(f"Kafka is ready at {servers}; Ctrl-C stops it")

    async def _services(
        self,
        sources: Sequence[SecretSource],
        prometheus: LocalPrometheus | None,
        before_services: Step | None,
    ) -> None:
        config = self._config
        bootstrap_servers = config.bootstrap_servers or await self._start_kafka()
        self._environ["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
        with wrong_settings():
            settings = load_settings(KafkaSettings, self._environ)
            try:
                await ensure_topics(settings)
                if before_services:
                    await before_services(settings)
            except (KafkaError, OSError) as error:
                raise LocalError(f"Kafka at {bootstrap_servers}: {error}") from error
        self._mux.write_line("starting processor and gateway")
        (health_port,) = free_ports(1)
        processor_url = f"http://{LOOPBACK}:{health_port}"
        worker_name = self._environ.get("WORKER_NAME", "local")
        self._start("processor", HOST=LOOPBACK, PORT=str(health_port), WORKER_NAME=worker_name)
        self._start(
            "serve",
            HOST=config.host,
            PORT=str(config.port),
            PROCESSOR_READY_URL=f"{processor_url}/-/ready",
            **({} if config.bootstrap_servers else {"DISK_FOLDER": str(config.state / "kafka")}),
        )
        if prometheus:
            part = prometheus.part({"serve": config.url, "processor": processor_url})
            self._supervisor.start(part)
            self._tasks.append(asyncio.create_task(prometheus.follow_token(), name="token"))
        await wait_until_ready(f"{config.url}/-/ready", self._mux.write_line)
        if prometheus:
            await wait_until_ready(f"{prometheus.url}/-/ready", self._mux.write_line)
        urls = [config.url, *filter(None, [config.public_url])]
        self._published.enter_context(published_urls(config.state, urls))
        self._mux.write_text(banner(config, sources, bootstrap_servers, prometheus))

    async def _start_kafka(self) -> str:
        assert self._install is not None
        self._mux.write_line("starting Kafka")
        cluster = Cluster(
            self._config.state / "kafka", self._install, properties=lambda _: FLUSH_EACH_APPEND
        )
        reminder = asyncio.create_task(self._remind("Kafka is still starting"))
        try:
            await cluster.start(KAFKA_PATIENCE)
        finally:
            reminder.cancel()
        (broker,) = cluster.brokers

        def ended(code: int) -> None:
            broker.ended(code)
            if reason := full(self._config.state):
                self._mux.write_line(reason)

        self._supervisor.start(SupervisedPart("kafka", broker.launch, ended), broker.process)
        file = self._config.bootstrap_servers_file
        file.write_text(f"{cluster.bootstrap_servers}\n", encoding="ascii")
        return cluster.bootstrap_servers

    async def _remind(self, line: str) -> None:
        while True:
            await asyncio.sleep(REMIND_AFTER)
            self._mux.write_line(line)

    def _start(self, name: str, **settings: str) -> None:
        environ = self._environ | settings | {"PYTHONUNBUFFERED": "1", "LOG_FORMAT": "json"}
        self._supervisor.start(SupervisedPart(name, self._launcher(name, environ)))

    def _launcher(self, name: str, environ: Mapping[str, str]) -> Callable[[], Process]:
        def launch() -> Process:
            command = [sys.executable, "-P", "-m", "tobogganing", name]
            child = process.start(command, environ=environ, output=subprocess.PIPE)
            assert child.stdout is not None
            self._mux.attach(name, child.stdout)
            return child

        return launch
