"""docker-compose.yml run as plain processes: same commands, same environment, other addresses.

A service that runs several times has one port and, for each copy, a loopback address of its own, as
containers have; a name server knows them all, as Docker's does.
"""

import asyncio
import contextlib
import random
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.deploy import program_log
from tests.deploy.compose import ComposeService, kafka_properties
from tests.deploy.dns import NameServer
from tobogganing.devstack import process
from tobogganing.devstack.cluster import is_ready
from tobogganing.devstack.install import Install
from tobogganing.devstack.kafka_config import LOG4J_PROPERTIES, Node
from tobogganing.devstack.ports import free_ports
from tobogganing.devstack.process import Process
from tools.debian import Program

POLL = 0.1
PATIENCE = 120
OURS = ("gateway", "processor", "exporter")
ADDRESS = re.compile(r"\b([a-z][a-z0-9-]*):(\d{4})\b")


class Stack:
    """The services of the file on this machine: free ports on loopback, folders as volumes."""

    def __init__(
        self, services: Mapping[str, ComposeService], site: Path, folder: Path, names: NameServer
    ) -> None:
        self.services = services
        self.folder = folder
        self.names = names
        self.running: dict[str, Process] = {}
        self._site = site
        self._net = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
        self._ports: dict[tuple[str, str], int] = {}
        self.brokers = {
            name: Node(int(service.environment["KAFKA_NODE_ID"]), *free_ports(2))
            for name, service in services.items()
            if name.startswith("kafka")
        }

    def volume(self, name: str) -> Path:
        """The folder that stands for a named volume."""
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def copies(self, name: str) -> list[str]:
        """The names of a service's copies, as Docker numbers them."""
        return [f"{name}-{n + 1}" for n in range(self.services[name].config.get("scale", 1))]

    def host(self, copy: str) -> str:
        """The address of a copy of one of our services; of anything else it is loopback."""
        name, _, number = copy.rpartition("-")
        if name not in OURS:
            return "127.0.0.1"
        return f"{self._net}.{10 * (OURS.index(name) + 1) + int(number)}"

    def port(self, name: str, there: str) -> int:
        """The port here that stands for port `there` of a service."""
        if (name, there) not in self._ports:
            taken = set(self._ports.values())
            self._ports[name, there] = next(p for p in free_ports(20) if p not in taken)
        return self._ports[name, there]

    def url(self, copy: str) -> str:
        name = copy.rpartition("-")[0]
        there = self.services[name].environment["PORT"]
        return f"http://{self.host(copy)}:{self.port(name, there)}"

    def addresses(self, text: str) -> str:
        """`text` with the addresses of this machine instead of `service:port`."""

        def here(found: re.Match[str]) -> str:
            name, there = found.groups()
            if node := self.brokers.get(name):
                return node.broker if there == "9092" else node.controller
            return f"127.0.0.1:{self.port(name, there)}" if name in self.services else found[0]

        return ADDRESS.sub(here, text)

    def here(self, service: ComposeService, text: str) -> str:
        """What a service's setting or argument is on this machine."""
        if node := self.brokers.get(service.name):
            text = text.replace("//:9092", f"//{node.broker}").replace(
                "//:9093", f"//{node.controller}"
            )
            text = text.replace("/127.0.0.1/9092", f"/127.0.0.1/{node.broker_port}")
        text = self.addresses(text)
        for mount in sorted(service.mounts, key=lambda mount: -len(mount.target)):
            option, equals, path = text.rpartition("=")
            if Path(path).is_relative_to(mount.target):
                source = Path(mount.source)
                source = source if source.is_absolute() else self.volume(mount.source)
                path = str(source / Path(path).relative_to(mount.target))
            text = option + equals + path
        return text

    def environ(self, service: ComposeService, copy: str = "") -> dict[str, str]:
        """All that a service's process finds in its environment."""
        environ = {name: self.here(service, value) for name, value in service.environment.items()}
        if service.name in OURS:
            port = self.port(service.name, service.environment["PORT"])
            environ |= {"HOST": self.host(copy), "PORT": str(port)}
        path = f"{self._site}:{sysconfig.get_path('purelib')}"
        return environ | {"PATH": "/usr/bin:/bin", "PYTHONPATH": path}

    def command(self, service: ComposeService) -> list[str]:
        arguments = [self.here(service, argument) for argument in service.command]
        # -S: the checkout, installed as editable, must not stand in for what the image lacks.
        return [sys.executable, "-S", "-m", "tobogganing", *arguments]

    def run(self, name: str) -> None:
        """Run a service that ends by itself."""
        service = self.services[name]
        command, environ = self.command(service), self.environ(service)
        program_log.note(f"tobogganing {name}")
        subprocess.run(command, cwd=self.folder, env=environ, check=True, timeout=60)

    def start(self, copy: str) -> None:
        """Start a copy of one of our services, without waiting until it is ready."""
        name = copy.rpartition("-")[0]
        service = self.services[name]
        self._start(copy, self.command(service), self.environ(service, copy), f"tobogganing {name}")
        self.names.addresses.setdefault(name, []).append(self.host(copy))

    def start_program(self, name: str, program: Program, *flags: str, **environ: str) -> None:
        """Start a service whose image is not ours from a program that is here.

        `flags` come after those of the file.
        """
        service = self.services[name]
        arguments = [self.here(service, argument) for argument in service.command]
        if arguments[:1] == [program.path.name]:
            del arguments[0]
        command = [str(program.path), *arguments, *flags]
        self._start(name, command, program.environ | environ, program.path.name)

    def start_kafka(self, name: str, install: Install) -> None:
        """Start a broker from the properties that the image would make of its environment."""
        service = self.services[name]
        environ = {key: self.here(service, value) for key, value in service.environment.items()}
        folder = self.folder / "brokers" / name
        folder.mkdir(parents=True)
        lines = [f"{key}={value}\n" for key, value in kafka_properties(environ).items()]
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
        self._start(name, command, {"PATH": "/usr/bin:/bin"}, "kafka", folder)

    async def kafka_ready(self) -> None:
        """Wait until the brokers that run do all that they can do."""
        nodes = [node for name, node in self.brokers.items() if name in self.running]
        async with self._patience("kafka-1"):
            while not await is_ready(nodes):
                self.check_running("kafka-1")
                await asyncio.sleep(POLL)

    async def healthy(self, copy: str) -> None:
        """Wait until the copy's own health check passes."""
        name = copy if copy in self.services else copy.rpartition("-")[0]
        service = self.services[name]
        command = [
            self.here(service, argument).replace('"127.0.0.1"', f'"{self.host(copy)}"')
            for argument in service.health_command
        ]
        command[0] = sys.executable if command[0] == "python" else command[0]
        async with self._patience(copy):
            while True:
                self.check_running(copy)
                check = await asyncio.create_subprocess_exec(
                    *command,
                    env=self.environ(service, copy),
                    stderr=asyncio.subprocess.DEVNULL,
                )
                if await check.wait() == 0:
                    return
                await asyncio.sleep(POLL)

    async def stop(self, copy: str) -> tuple[int, float]:
        """Stop as `docker stop` does; return exit status and seconds."""
        began = time.monotonic()
        child = self.running.pop(copy)
        process.send(child, signal.SIGTERM)
        async with asyncio.timeout(30):
            code = await process.ended(child)
        return code, time.monotonic() - began

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End whatever still runs."""
        for child in self.running.values():
            process.send(child, signal.SIGKILL)
            child.wait()

    def check_running(self, name: str) -> None:
        code = self.running[name].poll()
        assert code is None, f"{name} ended ({process.describe_exit(code or 0)}):\n{self.log(name)}"

    def _start(
        self,
        name: str,
        command: list[str],
        environ: dict[str, str],
        what: str,
        folder: Path | None = None,
    ) -> None:
        program_log.note(what)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = process.start(
                command, environ=environ, output=log, folder=folder or self.folder
            )

    @contextlib.asynccontextmanager
    async def _patience(self, name: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except TimeoutError:
            raise AssertionError(f"{name} is not healthy:\n{self.log(name)[-4000:]}") from None
