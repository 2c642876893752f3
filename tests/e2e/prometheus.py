"""A real Prometheus: the system's, else that of Debian's package, unpacked into the cache without
root.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tobogganing.devstack.ports import free_ports
from tobogganing.devstack.prometheus import prometheus_program
from tobogganing.errors import LocalError

POLL = 0.1


@dataclass(frozen=True)
class Programs:
    """The paths of the two programs."""

    prometheus: Path
    promtool: Path


class NoPrometheusError(Exception):
    """This machine has none, and none could be downloaded; the text says what was tried."""


def find_programs() -> Programs:
    """Find Prometheus, or download it.

    Raises:
        NoPrometheusError: neither worked.
    """
    try:
        return Programs(prometheus_program("prometheus"), prometheus_program("promtool"))
    except LocalError as error:
        raise NoPrometheusError(str(error)) from error


class Prometheus:
    """A running Prometheus, queried through its HTTP API."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of a response."""
        response = await self._http.get(path, params=parameters)
        response.raise_for_status()
        return response.json()["data"]

    async def series(self, query: str) -> list[Any]:
        """The result of an instant query; waits up to 60 s until there is one."""
        result: list[Any] = []
        async with asyncio.timeout(60):
            while not result:
                result = (await self.ask("/api/v1/query", query=query))["result"]
                await asyncio.sleep(POLL)
        return result


@contextlib.asynccontextmanager
async def running_prometheus(
    programs: Programs, config: str, folder: Path
) -> AsyncIterator[Prometheus]:
    """Run Prometheus with this configuration file, and stop it at the end."""
    file = folder / "prometheus.yml"
    file.write_text(config, encoding="utf-8")
    (port,) = free_ports(1)
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            programs.prometheus,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"]},
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            async with asyncio.timeout(60):
                while not await _is_ready(http):
                    assert process.returncode is None, (folder / "prometheus.log").read_text()
                    await asyncio.sleep(POLL)
            yield Prometheus(http)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _is_ready(http: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/-/ready")).status_code == 200
    return False


def lint(programs: Programs, exposition: bytes) -> list[str]:
    """The complaints of `promtool check metrics` about metrics in text 0.0.4."""
    result = subprocess.run(
        [programs.promtool, "check", "metrics"], input=exposition, capture_output=True, check=False
    )
    complaints = (result.stdout + result.stderr).decode().splitlines()
    assert result.returncode in (0, 3), complaints  # 3: there are complaints
    assert bool(complaints) == bool(result.returncode)
    return sorted(complaints)
