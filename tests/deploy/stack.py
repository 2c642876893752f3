"""docker-compose.yml run as plain processes: same commands, same environment, other addresses."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.deploy.compose import Service, kafka_properties
from tobogganing.local import process
from tobogganing.local.install import Install
from tobogganing.local.kafka_config import LOG4J_PROPERTIES, Node
from tobogganing.local.ports import free_ports
from tobogganing.local.probe import is_ready
from tobogganing.local.process import Process

POLL = 0.1
NODE = "1"


class Stack:
    """The services of the file on this machine: free ports on loopback, folders as volumes."""

    def __init__(self, services: Mapping[str, Service], site: Path, folder: Path) -> None:
        self.services = services
        self.folder = folder
        self.running: dict[str, Process] = {}
        self._site = site
        ours = [name for name, service in services.items() if "PORT" in service.environment]
        ports = free_ports(len(ours) + 2)
        self.ports = dict(zip(ours, ports, strict=False))
        self._node = Node(int(NODE), *ports[-2:])
        self._addresses = {
            "kafka:9092": self._node.broker,
            "kafka:9093": self._node.controller,
            "//:9092": f"//{self._node.broker}",
            "//:9093": f"//{self._node.controller}",
            "/127.0.0.1/9092": f"/127.0.0.1/{self._node.broker_port}",
        }

    def volume(self, name: str) -> Path:
        """The folder that stands for a named volume."""
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def here(self, service: Service, text: str) -> str:
        """What a service's setting or argument is on this machine."""
        for there, here in self._addresses.items():
            text = text.replace(there, here)
        for mount in sorted(service.mounts, key=lambda mount: -len(mount.target)):
            option, equals, path = text.rpartition("=")
            if Path(path).is_relative_to(mount.target):
                source = Path(mount.source)
                source = source if source.is_absolute() else self.volume(mount.source)
                path = str(source / Path(path).relative_to(mount.target))
            text = option + equals + path
        return text

    def environ(self, service: Service) -> dict[str, str]:
        """All that a service's process finds in its environment."""
        environ = {name: self.here(service, value) for name, value in service.environment.items()}
        if service.name in self.ports:
            environ |= {"HOST": "127.0.0.1", "PORT": str(self.ports[service.name])}
        path = f"{self._site}:{sysconfig.get_path('purelib')}"
        return environ | {"PATH": "/usr/bin:/bin", "PYTHONPATH": path}

    def command(self, service: Service) -> list[str]:
        arguments = [self.here(service, argument) for argument in service.command]
        # -S: the checkout, installed as editable, must not stand in for what the image lacks.
        return [sys.executable, "-S", "-m", "tobogganing", *arguments]

    def run(self, name: str) -> None:
        """Run a service that ends by itself."""
        service = self.services[name]
        command, environ = self.command(service), self.environ(service)
        subprocess.run(command, cwd=self.folder, env=environ, check=True, timeout=60)

    def start(self, name: str) -> None:
        """Start a service, without waiting until it is ready."""
        service = self.services[name]
        self._start(name, self.command(service), self.environ(service))

    def start_program(self, name: str, command: list[str]) -> None:
        """Start a service whose image is not ours from a program that is here."""
        self._start(name, command, {"PATH": "/usr/bin:/bin"})

    def start_kafka(self, install: Install) -> None:
        """Start a broker from the properties that the image would make of its environment."""
        service = self.services["kafka"]
        environ = {name: self.here(service, value) for name, value in service.environment.items()}
        folder = self.folder / "kafka"
        folder.mkdir()
        lines = [f"{name}={value}\n" for name, value in kafka_properties(environ).items()]
        (folder / "server.properties").write_text("".join(lines), encoding="ascii")
        (folder / "log4j2.properties").write_text(LOG4J_PROPERTIES, encoding="ascii")
        flags = [f"-XX:SharedArchiveFile={install.archive}"] if install.archive.exists() else []
        java = install.command(*flags)
        tool = ["kafka.tools.StorageTool", "format", "--config", "server.properties"]
        subprocess.run(
            [*java, *tool, "--cluster-id", environ["CLUSTER_ID"]],
            cwd=folder,
            check=True,
            timeout=60,
            capture_output=True,
        )
        command = [*java, "kafka.Kafka", "server.properties"]
        self._start("kafka", command, {"PATH": "/usr/bin:/bin"}, folder)

    async def kafka_ready(self) -> None:
        """Wait until the broker does all that it can do."""
        async with self._patience("kafka"):
            while not await is_ready([self._node]):
                self._check_running("kafka")
                await asyncio.sleep(POLL)

    async def healthy(self, name: str) -> None:
        """Wait until the service's own health check passes."""
        service = self.services[name]
        command = [self.here(service, argument) for argument in service.health_command]
        command[0] = sys.executable if command[0] == "python" else command[0]
        async with self._patience(name):
            while True:
                self._check_running(name)
                check = await asyncio.create_subprocess_exec(
                    *command,
                    env=self.environ(service),
                    stderr=asyncio.subprocess.DEVNULL,
                )
                if await check.wait() == 0:
                    return
                await asyncio.sleep(POLL)

    async def stop(self, name: str) -> tuple[int, float]:
        """Stop as `docker stop` does; return exit status and seconds."""
        started = time.monotonic()
        child = self.running.pop(name)
        process.send(child, signal.SIGTERM)
        async with asyncio.timeout(30):
            code = await process.ended(child)
        return code, time.monotonic() - started

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End whatever still runs."""
        for child in self.running.values():
            process.send(child, signal.SIGKILL)
            child.wait()

    def _start(
        self, name: str, command: list[str], environ: dict[str, str], folder: Path | None = None
    ) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = process.start(
                command, environ=environ, output=log, folder=folder or self.folder
            )

    def _check_running(self, name: str) -> None:
        code = self.running[name].poll()
        assert code is None, f"{name} ended ({process.describe_exit(code or 0)}):\n{self.log(name)}"

    @contextlib.asynccontextmanager
    async def _patience(self, name: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(60):
                yield
        except TimeoutError:
            raise AssertionError(f"{name} is not healthy:\n{self.log(name)[-4000:]}") from None
