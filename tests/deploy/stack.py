"""Programs of docker-compose.yml as plain processes: its commands, with other addresses."""

import re
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.deploy import program_log
from tests.deploy.compose import ComposeService
from tobogganing.devstack import process
from tobogganing.devstack.ports import free_ports
from tobogganing.devstack.process import Process
from tools.debian import Program

POLL = 0.1
PATIENCE = 120
ADDRESS = re.compile(r"\b([a-z][a-z0-9-]*):(\d{4})\b")


class Stack:
    """The services of the file on this machine, with free ports on loopback, and folders as
    volumes."""

    def __init__(self, services: Mapping[str, ComposeService], folder: Path) -> None:
        self.services = services
        self.folder = folder
        self.running: dict[str, Process] = {}
        self._ports: dict[tuple[str, str], int] = {}

    def volume(self, name: str) -> Path:
        """The folder that stands for a named volume."""
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def port(self, name: str, there: str) -> int:
        """The local port that stands for port `there` of a service."""
        if (name, there) not in self._ports:
            taken = set(self._ports.values())
            self._ports[name, there] = next(p for p in free_ports(20) if p not in taken)
        return self._ports[name, there]

    def addresses(self, text: str) -> str:
        """`text` with the addresses of this machine instead of `service:port`."""

        def here(found: re.Match[str]) -> str:
            name, there = found.groups()
            return f"127.0.0.1:{self.port(name, there)}" if name in self.services else found[0]

        return ADDRESS.sub(here, text)

    def here(self, service: ComposeService, text: str) -> str:
        """A service's setting or argument, converted for this machine."""
        text = self.addresses(text)
        for mount in sorted(service.mounts, key=lambda mount: -len(mount.target)):
            option, equals, path = text.rpartition("=")
            if Path(path).is_relative_to(mount.target):
                source = Path(mount.source)
                source = source if source.is_absolute() else self.volume(mount.source)
                path = str(source / Path(path).relative_to(mount.target))
            text = option + equals + path
        return text

    def start_program(self, name: str, program: Program, *flags: str, **environ: str) -> None:
        """Start a service with a local program.

        `flags` are appended to those of the file.
        """
        service = self.services[name]
        arguments = [self.here(service, argument) for argument in service.command]
        if arguments[:1] == [program.path.name]:
            del arguments[0]
        command = [str(program.path), *arguments, *flags]
        program_log.note(program.path.name)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = process.start(
                command, environ=program.environ | environ, output=log, folder=self.folder
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """Stop all services that still run."""
        for child in self.running.values():
            process.send(child, signal.SIGKILL)
            child.wait()

    def check_running(self, name: str) -> None:
        code = self.running[name].poll()
        assert code is None, f"{name} ended ({process.describe_exit(code or 0)}):\n{self.log(name)}"
