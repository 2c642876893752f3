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
from service.kafka import ensure_topics
from service.logs import configure_logs
from service.server import listen_fault
from service.setting_checks import check_host
from service.settings import KafkaSettings, LogSettings, SettingsError, load_settings
from tobogganing.local import process
from tobogganing.local.banner import banner
from tobogganing.local.cluster import Cluster
from tobogganing.local.disk import disk_faults, full
from tobogganing.local.errors import LocalError, WrongSettingError
from tobogganing.local.install import Install, install_kafka
from tobogganing.local.kafka_config import FLUSH_EACH_APPEND
from tobogganing.local.locks import LockedError, acquire
from tobogganing.local.output import Output
from tobogganing.local.place import Place, read_place
from tobogganing.local.ports import LOOPBACK, free_ports, is_free
from tobogganing.local.process import Process
from tobogganing.local.secrets import Source, provide_secrets, provide_signing_keys
from tobogganing.local.supervisor import Part, Supervisor
from tobogganing.serve import ServeSettings

READY_POLL = 0.1
REMIND = 20.0
"""Seconds between two lines about what is still not ready."""


def run(environ: Mapping[str, str] | None = None) -> int:
    """Run until stopped; the exit status.

    Raises:
        LocalError: it could not start; the text says what to do.
    """
    environ = os.environ if environ is None else environ
    place = read_place(environ)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with disk_faults(place.state, "STATE_DIR"), acquire(place.state / "lock", wait=False):
            _check_port(place)
            _configure_own_logs(environ)
            folder = place.state / "secrets"
            sources = provide_secrets(folder, environ)
            keys = provide_signing_keys(folder, environ)
            environ = {**environ, "SIGNING_KEYS_DIR": str(keys)}
            _check_services(place, environ, sources)
            install = None if place.bootstrap_servers else install_kafka(environ)
            output = Output(sys.stdout.buffer, place.state / "logs")
            try:
                asyncio.run(Run(place, environ, install, sources, output).until_stopped())
            finally:
                output.close()
    except LockedError as error:
        raise LocalError(
            f"already running on {place.state} (process {error.holder}): stop that one, or choose "
            "another folder and port: make run STATE_DIR=.state2 PORT=8001"
        ) from None
    except KeyboardInterrupt:
        # Downloads may still wait for a silent server in their threads: nothing to wait for here.
        print("Stopped before the start was complete.", file=sys.stderr, flush=True)
        os._exit(0)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _configure_own_logs(environ: Mapping[str, str]) -> None:
    """Readable lines, as the rest of what this program says, unless LOG_FORMAT asks for others."""
    with _wrong_settings():
        settings = load_settings(LogSettings, {"LOG_FORMAT": "console", **environ})
    configure_logs(settings, "run")


def _check_services(place: Place, environ: Mapping[str, str], sources: list[Source]) -> None:
    """Refuse, before anything is started, what a service would refuse."""
    environ = {"KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:1", **environ}
    environ |= _secret_files(sources) | {"HOST": place.host, "PORT": str(place.port)}
    with _wrong_settings():
        check_files(load_settings(ServeSettings, environ))
        load_settings(ProcessorSettings, environ)


def _check_port(place: Place) -> None:
    try:
        check_host(place.host)
        if is_free(place.port, place.host):
            return
    except ValueError as error:
        raise WrongSettingError(f"HOST={place.host} is not valid: {error}") from None
    except OSError as error:
        raise WrongSettingError(listen_fault(place.host, place.port, error)) from None
    raise WrongSettingError(
        f"PORT={place.port}: port {place.port} is taken on {place.host}: stop the program that "
        f"listens there, or choose another port: make run PORT={place.port + 1}"
    )


@contextlib.contextmanager
def _wrong_settings() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        raise WrongSettingError(str(error)) from None


def _secret_files(sources: list[Source]) -> dict[str, str]:
    return {f"{source.name}_FILE": str(source.file) for source in sources if source.file}


class Run:
    """One run, from the start of Kafka to the stop of everything."""

    def __init__(
        self,
        place: Place,
        environ: Mapping[str, str],
        install: Install | None,
        sources: list[Source],
        output: Output,
    ) -> None:
        self._place = place
        self._environ = dict(environ)
        self._install = install
        self._sources = sources
        self._output = output
        self._supervisor = Supervisor(output.tell)
        self._stop = asyncio.Event()

    async def until_stopped(self) -> None:
        """Bring everything up, keep it up, stop it when asked."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        rise = asyncio.create_task(self._bring_up(), name="bring up")
        asked = asyncio.create_task(self._stop.wait(), name="asked to stop")
        try:
            await asyncio.wait({rise, asked}, return_when=asyncio.FIRST_COMPLETED)
            if rise.done():
                rise.result()
            await asked
        finally:
            rise.cancel()
            await asyncio.wait({rise})
            await self._supervisor.stop()
        self._output.tell("stopped")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._supervisor.kill()
            os._exit(130)
        self._output.tell("stopping (once more: at once)")
        self._stop.set()

    async def _bring_up(self) -> None:
        tell = self._output.tell
        bootstrap_servers = self._place.bootstrap_servers or await self._start_kafka()
        self._environ["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
        try:
            with _wrong_settings():
                await ensure_topics(load_settings(KafkaSettings, self._environ))
        except (KafkaError, OSError) as error:
            raise LocalError(f"Kafka at {bootstrap_servers}: {error}") from error
        tell("starting processor and gateway")
        (health_port,) = free_ports(1)
        processor_url = f"http://{LOOPBACK}:{health_port}"
        worker_name = self._environ.get("WORKER_NAME", "local")
        self._start("processor", HOST=LOOPBACK, PORT=str(health_port), WORKER_NAME=worker_name)
        self._start(
            "serve",
            HOST=self._place.host,
            PORT=str(self._place.port),
            PROCESSOR_READY_URL=f"{processor_url}/-/ready",
        )
        await self._until_ready()
        self._output.show(
            banner(self._place.url, self._sources, str(self._place.state), bootstrap_servers)
        )

    async def _start_kafka(self) -> str:
        assert self._install is not None
        self._output.tell("starting Kafka")
        cluster = Cluster(
            self._place.state / "kafka", self._install, properties=lambda _: FLUSH_EACH_APPEND
        )
        await cluster.start()
        (broker,) = cluster.brokers

        def ended(code: int) -> None:
            broker.ended(code)
            if reason := full(self._place.state):
                self._output.tell(reason)

        self._supervisor.start(Part("kafka", broker.launch, ended), broker.process)
        file = self._place.bootstrap_servers_file
        file.write_text(f"{cluster.bootstrap_servers}\n", encoding="ascii")
        return cluster.bootstrap_servers

    def _start(self, name: str, **settings: str) -> None:
        environ = self._environ | settings | {"PYTHONUNBUFFERED": "1"}
        environ |= _secret_files(self._sources)
        if sys.stdout.isatty():
            environ.setdefault("LOG_FORMAT", "console")
        self._supervisor.start(Part(name, self._launcher(name, environ)))

    def _launcher(self, name: str, environ: Mapping[str, str]) -> Callable[[], Process]:
        def launch() -> Process:
            command = [sys.executable, "-P", "-m", "tobogganing", name]
            child = process.start(command, environ=environ, output=subprocess.PIPE)
            assert child.stdout is not None
            self._output.attach(name, child.stdout)
            return child

        return launch

    async def _until_ready(self) -> None:
        url = f"{self._place.url}/-/ready"
        loop = asyncio.get_running_loop()
        remind_at = loop.time() + REMIND
        while why_not := await asyncio.to_thread(_why_not_ready, url):
            if loop.time() > remind_at:
                self._output.tell(f"still waiting for {url}: {why_not}")
                remind_at = loop.time() + REMIND
            await asyncio.sleep(READY_POLL)


def _why_not_ready(url: str) -> str:
    """What the readiness page answers when it is not 200, else nothing. Never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2):
            return ""
    except urllib.error.HTTPError as error:
        return error.read(500).decode(errors="replace").strip() or str(error)
    except OSError as error:
        return str(error)
