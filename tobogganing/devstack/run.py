"""`tobogganing run`: Kafka and every service on this machine, until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from aiokafka.errors import KafkaError

from gateway.app import check_files
from processor.settings import ProcessorSettings
from service.config.checks import check_host
from service.config.settings import KafkaSettings, LogSettings, SettingsError, load_settings
from service.http.server import listen_fault
from service.kafka.topics import ensure_topics
from service.logs import configure_logs
from tobogganing.devstack import process
from tobogganing.devstack.banner import banner
from tobogganing.devstack.cluster import Cluster
from tobogganing.devstack.disk import disk_faults, full
from tobogganing.devstack.install import Install, install_kafka
from tobogganing.devstack.kafka_config import FLUSH_EACH_APPEND
from tobogganing.devstack.locks import LockedError, acquire
from tobogganing.devstack.log_mux import LogMux
from tobogganing.devstack.ports import LOOPBACK, free_ports, is_free
from tobogganing.devstack.process import Process
from tobogganing.devstack.run_config import RunConfig, read_run_config
from tobogganing.devstack.secrets import SecretSource, provide_secrets, provide_signing_keys
from tobogganing.devstack.supervisor import SupervisedPart, Supervisor
from tobogganing.errors import LocalError, WrongSettingError
from tobogganing.manager import ServeSettings

READY_POLL = 0.1
REMIND = 20.0
"""Seconds between two lines about a missing readiness."""


def run(environ: Mapping[str, str] | None = None) -> int:
    """Run until stopped; return the exit status.

    Raises:
        LocalError: the start failed; the text says what to do.
    """
    environ = os.environ if environ is None else environ
    config = read_run_config(environ)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with disk_faults(config.state, "STATE_DIR"), acquire(config.state / "lock", wait=False):
            _check_port(config)
            _configure_own_logs(environ)
            folder = config.state / "secrets"
            sources = provide_secrets(folder, environ)
            keys = provide_signing_keys(folder, environ)
            environ = {**environ, "SIGNING_KEYS_DIR": str(keys)}
            _check_services(config, environ, sources)
            install = None if config.bootstrap_servers else install_kafka(environ)
            log_mux = LogMux(sys.stdout.buffer, config.state / "logs")
            try:
                asyncio.run(LocalStack(config, environ, install, sources, log_mux).until_stopped())
            finally:
                log_mux.close()
    except LockedError as error:
        raise LocalError(
            f"already running on {config.state} (process {error.holder}): stop that one, or choose "
            "another folder and port: make run STATE_DIR=.state2 PORT=8001"
        ) from None
    except KeyboardInterrupt:
        # Do not wait for the threads of downloads.
        print("Stopped before the start was complete.", file=sys.stderr, flush=True)
        os._exit(0)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _configure_own_logs(environ: Mapping[str, str]) -> None:
    """Log readable lines, unless LOG_FORMAT is set."""
    with _wrong_settings():
        settings = load_settings(LogSettings, {"LOG_FORMAT": "console", **environ})
    configure_logs(settings, "run")


def _check_services(
    config: RunConfig, environ: Mapping[str, str], sources: list[SecretSource]
) -> None:
    """Check the settings of all services before the first is started."""
    environ = {"KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:1", **environ}
    environ |= _secret_files(sources) | {"HOST": config.host, "PORT": str(config.port)}
    with _wrong_settings():
        check_files(load_settings(ServeSettings, environ))
        load_settings(ProcessorSettings, environ)


def _check_port(config: RunConfig) -> None:
    try:
        check_host(config.host)
        if is_free(config.port, config.host):
            return
    except ValueError as error:
        raise WrongSettingError(f"HOST={config.host} is not valid: {error}") from None
    except OSError as error:
        raise WrongSettingError(listen_fault(config.host, config.port, error)) from None
    raise WrongSettingError(
        f"PORT={config.port}: port {config.port} is taken on {config.host}: stop the program that "
        f"listens there, or choose another port: make run PORT={config.port + 1}"
    )


@contextlib.contextmanager
def _wrong_settings() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        raise WrongSettingError(str(error)) from None


def _secret_files(sources: list[SecretSource]) -> dict[str, str]:
    return {f"{source.name}_FILE": str(source.file) for source in sources if source.file}


class LocalStack:
    """One run, from the start of Kafka to the stop of all parts."""

    def __init__(
        self,
        config: RunConfig,
        environ: Mapping[str, str],
        install: Install | None,
        sources: list[SecretSource],
        log_mux: LogMux,
    ) -> None:
        self._config = config
        self._environ = dict(environ)
        self._install = install
        self._sources = sources
        self._log_mux = log_mux
        self._supervisor = Supervisor(log_mux.write_line)
        self._stop = asyncio.Event()

    async def until_stopped(self) -> None:
        """Start everything, and stop it at a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        starting = asyncio.create_task(self._bring_up(), name="bring up")
        asked = asyncio.create_task(self._stop.wait(), name="asked to stop")
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await asked
        finally:
            starting.cancel()
            await asyncio.wait({starting})
            await self._supervisor.stop()
        self._log_mux.write_line("stopped")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._supervisor.kill()
            os._exit(130)
        self._log_mux.write_line("stopping (Ctrl-C again: at once)")
        self._stop.set()

    async def _bring_up(self) -> None:
        bootstrap_servers = self._config.bootstrap_servers or await self._start_kafka()
        self._environ["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
        try:
            with _wrong_settings():
                await ensure_topics(load_settings(KafkaSettings, self._environ))
        except (KafkaError, OSError) as error:
            raise LocalError(f"Kafka at {bootstrap_servers}: {error}") from error
        self._log_mux.write_line("starting processor and gateway")
        (health_port,) = free_ports(1)
        processor_url = f"http://{LOOPBACK}:{health_port}"
        worker_name = self._environ.get("WORKER_NAME", "local")
        self._start("processor", HOST=LOOPBACK, PORT=str(health_port), WORKER_NAME=worker_name)
        self._start(
            "serve",
            HOST=self._config.host,
            PORT=str(self._config.port),
            PROCESSOR_READY_URL=f"{processor_url}/-/ready",
        )
        await self._until_ready()
        self._log_mux.write_text(
            banner(self._config.url, self._sources, str(self._config.state), bootstrap_servers)
        )

    async def _start_kafka(self) -> str:
        assert self._install is not None
        self._log_mux.write_line("starting Kafka")
        cluster = Cluster(
            self._config.state / "kafka", self._install, properties=lambda _: FLUSH_EACH_APPEND
        )
        await cluster.start()
        (broker,) = cluster.brokers

        def ended(code: int) -> None:
            broker.ended(code)
            if reason := full(self._config.state):
                self._log_mux.write_line(reason)

        self._supervisor.start(SupervisedPart("kafka", broker.launch, ended), broker.process)
        file = self._config.bootstrap_servers_file
        file.write_text(f"{cluster.bootstrap_servers}\n", encoding="ascii")
        return cluster.bootstrap_servers

    def _start(self, name: str, **settings: str) -> None:
        environ = self._environ | settings | {"PYTHONUNBUFFERED": "1"}
        environ |= _secret_files(self._sources)
        if sys.stdout.isatty():
            environ.setdefault("LOG_FORMAT", "console")
        self._supervisor.start(SupervisedPart(name, self._launcher(name, environ)))

    def _launcher(self, name: str, environ: Mapping[str, str]) -> Callable[[], Process]:
        def launch() -> Process:
            command = [sys.executable, "-P", "-m", "tobogganing", name]
            child = process.start(command, environ=environ, output=subprocess.PIPE)
            assert child.stdout is not None
            self._log_mux.attach(name, child.stdout)
            return child

        return launch

    async def _until_ready(self) -> None:
        url = f"{self._config.url}/-/ready"
        loop = asyncio.get_running_loop()
        remind_at = loop.time() + REMIND
        while why_not := await asyncio.to_thread(_why_not_ready, url):
            if loop.time() > remind_at:
                self._log_mux.write_line(f"still waiting for {url}: {why_not}")
                remind_at = loop.time() + REMIND
            await asyncio.sleep(READY_POLL)


def _why_not_ready(url: str) -> str:
    """The reason why a URL does not respond 200, else an empty text. Uses no proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2):
            return ""
    except urllib.error.HTTPError as error:
        return error.read(500).decode(errors="replace").strip() or str(error)
    except OSError as error:
        return str(error)
