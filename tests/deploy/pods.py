"""Pods without a cluster: each container as a process, with the environment from the kubelet.

Nothing can be written to a file by them (as on a root file system that is read-only): RLIMIT_FSIZE.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.deploy import program_log
from tests.deploy.kubectl import Object
from tests.deploy.manifests import (
    Manifests,
    container,
    content,
    mounts,
    pod_name,
    port,
    template,
)
from tobogganing.devstack.ports import free_ports

POLL = 0.05
IMAGE = {"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
"""Variables that the image sets."""


class Pod:
    """One pod. `kill` it at the end."""

    def __init__(
        self,
        manifests: Manifests,
        name: str,
        ordinal: int,
        secrets: Mapping[str, Object],
        folder: Path,
        **instead: str,
    ) -> None:
        """`instead` are variables with other values on this machine: Kafka's address."""
        self.workload = workload = manifests.workload(name)
        self.name = pod_name(workload, ordinal)
        self.folder = folder / self.name
        self.folder.mkdir()
        self.environ = manifests.environ(workload, ordinal, secrets)
        assert self.environ["PORT"] == str(port(workload, "http"))
        self.port = free_ports(1)[0]
        self.environ |= {"HOST": "127.0.0.1", "PORT": str(self.port)} | instead
        self._log: list[bytes] = []
        self._process: asyncio.subprocess.Process | None = None
        self.mount(secrets)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mount(self, secrets: Mapping[str, Object]) -> None:
        """Mount the current content of its Secrets, atomically as the kubelet does."""
        for path, source in mounts(self.workload):
            volume = self.folder / "volumes" / path.strip("/")
            moment = f"..{time.monotonic_ns()}"
            (volume / moment).mkdir(parents=True)
            values = content(secrets[source["secretName"]])
            items = {item["key"]: item["path"] for item in source.get("items", [])}
            for key, file in (items or {key: key for key in values}).items():
                (volume / moment / file).write_bytes(values[key])
                (volume / moment / file).chmod(source["defaultMode"])
                if not (volume / file).is_symlink():
                    (volume / file).symlink_to(f"..data/{file}")
            scratch = volume / "..data_tmp"
            scratch.symlink_to(moment)
            scratch.replace(volume / "..data")
        for variable, value in self.environ.items():
            if value.startswith("/run/"):
                self.environ[variable] = str(self.folder / "volumes" / value.strip("/"))

    async def start(self) -> None:
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        arguments = container(self.workload)["args"]
        program_log.note(f"tobogganing {arguments[0]}")
        self._process = await asyncio.create_subprocess_exec(
            *("prlimit", "--fsize=0", sys.executable, "-m", "tobogganing", *arguments),
            cwd=work,
            env=IMAGE | {"TMPDIR": str(work)} | self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def ready(self) -> None:
        """Wait until its probes have passed, within the kubelet's limits."""
        for probe in ("startupProbe", "livenessProbe"):
            how = container(self.workload)[probe]
            await self.until(probe, how["periodSeconds"] * how["failureThreshold"])
        await self.until("readinessProbe", 60)

    async def until(self, probe: str, seconds: float) -> None:
        """Wait until a probe passes."""
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._process.returncode is None:
                    if await self.passes(probe):
                        return
                    await asyncio.sleep(POLL)
        raise AssertionError(f"{probe} of {self.name} did not pass:\n{self.log()[-4000:]}")

    async def passes(self, probe: str) -> bool:
        """Send the request of a probe, as the kubelet does."""
        how = container(self.workload)[probe]
        assert how["httpGet"]["port"] == "http"
        patience = how.get("timeoutSeconds", 1)
        async with httpx.AsyncClient(timeout=patience, trust_env=False) as http:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.get(self.url + how["httpGet"]["path"])
                return 200 <= answer.status_code < 400
        return False

    async def stop(self) -> None:
        """Stop it as the kubelet does, within its grace period."""
        assert self._process is not None
        spec = template(self.workload)["spec"]
        hook = container(self.workload).get("lifecycle", {}).get("preStop", {})
        grace = spec["terminationGracePeriodSeconds"] - hook.get("sleep", {}).get("seconds", 0)
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._process.wait()
        how = self._process.returncode
        assert how == 0, f"{self.name} ended with {how}:\n{self.log()[-4000:]}"

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._process is not None:
            await self._reading

    def log(self) -> str:
        return b"".join(self._log).decode(errors="replace")

    def written(self) -> list[Path]:
        """The files that it has left in its working directory."""
        return list((self.folder / "work").rglob("*"))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._log.append(line)
