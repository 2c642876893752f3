"""One Kafka broker (KRaft, no Docker) with durable storage in a folder."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tobogganing.devstack import process
from tobogganing.devstack.install import CdsArchive, Install
from tobogganing.devstack.kafka_config import LOG4J_PROPERTIES, Node, server_properties
from tobogganing.devstack.process import Process
from tobogganing.disk_space import full
from tobogganing.errors import LocalError

LAST_LINES = 15


class BrokerExitedError(LocalError):
    """The broker has ended; the text has the last lines of its log."""


class Broker:
    """A node's process and folder. The records survive restarts and kills."""

    def __init__(
        self,
        folder: Path,
        install: Install,
        node: Node,
        nodes: Sequence[Node],
        cluster_id: str,
        properties: Mapping[str, object],
    ) -> None:
        self.node = node
        self.folder = folder.absolute()
        self.process: Process | None = None
        self.extra_environ: dict[str, str] = {}
        """Further environment variables of the next start: tests set its clock."""
        self._install = install
        self._nodes = tuple(nodes)
        self._cluster_id = cluster_id
        self._properties = properties
        self._cds_archive = CdsArchive(install.archive)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def _mark(self) -> str:
        """A flag that only this folder's broker has on its command line."""
        return f"-Dtobogganing.node={self.folder}"

    def prepare(self) -> None:
        """Write the configuration, and format the storage once, which takes seconds.

        Raises:
            LocalError: the storage could not be formatted.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        process.end_stale(self.pid_file, self._mark)
        properties = server_properties(self.node, self._nodes, self._properties)
        self._write("server.properties", properties)
        self._write("log4j2.properties", LOG4J_PROPERTIES)
        self._format()

    def launch(self) -> Process:
        """Start the process without waiting until it is ready. Call it from the main thread.

        Raises:
            LocalError: the storage could not be formatted.
        """
        self.prepare()
        flags = self._cds_archive.flags()
        with (self.folder / "jvm.log").open("wb") as output:
            self.process = process.start(
                [*self._install.command(*flags, self._mark), "kafka.Kafka", "server.properties"],
                environ=_environ() | self.extra_environ,
                output=output,
                folder=self.folder,
            )
        self._write("pid", str(self.process.pid))
        return self.process

    def ended(self, code: int) -> None:
        """Clean up after the process; call it once after it ended with `code`."""
        self._cds_archive.ended(code)
        self.pid_file.unlink(missing_ok=True)
        self.process = None

    async def stop(self, patience: float = 10.0) -> None:
        """Stop with SIGTERM, and with SIGKILL after `patience` seconds."""
        if self.process is not None:
            self.ended(await process.stop(self.process, patience))

    async def kill(self) -> None:
        """Stop with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.ended(await process.ended(self.process))

    def check_running(self) -> None:
        """Raises: BrokerExitedError: the process has ended."""
        if not self.is_running:
            if reason := full(self.folder):
                raise BrokerExitedError(f"Kafka (node {self.node.id}) ended: {reason}")
            code = self.process.poll() if self.process else None
            how = process.describe_exit(code) if code is not None else "it was not started"
            raise BrokerExitedError(
                f"Kafka (node {self.node.id}) ended ({how}). The last lines of its log in "
                f"{self.folder}:\n{self.last_lines()}"
            )

    def last_lines(self) -> str:
        """The last lines of its logs, indented, without stack traces."""
        lines: list[str] = []
        for name in ("jvm.log", "server.log"):
            try:
                text = (self.folder / name).read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                continue
            shown = [line for line in text.splitlines() if not line.startswith("\t")]
            lines += shown[-LAST_LINES:]
        return "\n".join(f"    {line}" for line in lines)

    def _format(self) -> None:
        """Format the storage; Kafka's tool writes meta.properties last."""
        if (self.folder / "data" / "meta.properties").exists():
            return
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={self._cluster_id}"]
        flags = [f"-XX:SharedArchiveFile={self._install.archive}"]
        command = [*self._install.command(*flags), *tool, "--config", "server.properties"]
        result = subprocess.run(
            command, cwd=self.folder, env=_environ(), capture_output=True, text=True, check=False
        )
        if result.returncode:
            if reason := full(self.folder):
                raise LocalError(reason)
            raise LocalError(
                f"the storage in {self.folder} was not formatted:\n{result.stdout}{result.stderr}"
            )

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="ascii")


def _environ() -> dict[str, str]:
    """The environment of a JVM, without secrets and without other programs' JVM options."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    # In the POSIX locale Java cannot start in a folder with a non-ASCII name.
    return kept | {"LC_ALL": "C.UTF-8"}
