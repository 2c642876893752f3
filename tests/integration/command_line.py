"""The command line as processes, with the URL of a gateway and its ADMIN_TOKEN."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from service.config.settings import KafkaSettings
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN, NO_CAS, Service


class Ended(NamedTuple):
    """The result of a command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs `tobogganing` against one gateway."""

    code: Path | None = None
    """The folder of another version of the packages, if the commands are of that version."""

    def __init__(self, url: str, **environ: str) -> None:
        own = {"TOBOGGANING_URL": url, "ADMIN_TOKEN": ADMIN_TOKEN}
        self._environ = os.environ | NO_CAS | own | environ

    async def __call__(self, *words: str, stdin: str = "") -> Ended:
        """Run a command to its end; fail if it prints a traceback."""
        async with self.started(*words) as process:
            async with asyncio.timeout(120):
                out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        ended = Ended(process.returncode, out.decode(), err.decode())
        assert "Traceback" not in ended.err, ended.err
        return ended

    async def good(self, *words: str, stdin: str = "") -> Ended:
        """Run a command that succeeds."""
        ended = await self(*words, stdin=stdin)
        assert ended.status == 0, ended
        return ended

    async def bad(self, *words: str, stdin: str = "") -> str:
        """Run a command that fails with one line; return the line."""
        ended = await self(*words, stdin=stdin)
        assert ended.status in (1, 2), ended
        assert ended.err.startswith("Error: "), ended
        assert ended.err.count("\n") == 1, ended
        return ended.err.strip()

    @asynccontextmanager
    async def started(
        self, *words: str, **streams: Any
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a command; kill it at the end of the context if it still runs."""
        pipe = asyncio.subprocess.PIPE
        streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe} | streams
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tobogganing", *words),
            env=self._environ,
            cwd=self.code,
            **streams,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()


def kafka_command(
    settings: KafkaSettings, url: str = "http://127.0.0.1:1", **environ: str
) -> CommandLine:
    """Return the command line with Kafka's address, and by default without a service."""
    kafka = {
        "METRICS_TOKEN": METRICS_TOKEN,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix,
        "KAFKA_PARTITIONS": str(settings.kafka_partitions),
    }
    return CommandLine(url, **(kafka | environ))


async def until_line(process: asyncio.subprocess.Process, part: str) -> None:
    """Wait for a line of a command's stderr that contains `part`."""
    assert process.stderr is not None
    seen: list[str] = []
    async with asyncio.timeout(60):
        while not (seen and part in seen[-1]):
            line = await process.stderr.readline()
            assert line, seen
            seen.append(line.decode())


async def all_of(command: CommandLine, collection: str) -> list[dict[str, Any]]:
    """All entities of a collection."""
    return (await command.good(collection, "list", "--json")).documents


def clients(count: int, start: int = 0) -> list[str]:
    """Lines of a fleet of clients."""
    return [f"client,client-{n:05d},Client {n},native,,,," for n in range(start, start + count)]


def csv(lines: Sequence[str]) -> str:
    heading = "kind,id,name,type,cluster_id,region,datacenter,headend_url"
    return "\n".join([heading, *lines, ""])


async def submits(gateway: Service, client_id: str, api_key: str) -> int:
    """Submit with a key; return the status."""
    response = await gateway.http.post(
        f"/api/v1/clients/{client_id}/metrics",
        json={"metrics": {}},
        headers={"authorization": f"Bearer {api_key}"},
    )
    return response.status_code
