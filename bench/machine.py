"""The machine and the versions of a run."""

import os
import platform
import re
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import peers
from tobogganing.devstack.jars import KAFKA_VERSION
from tobogganing.devstack.run_config import CHECKOUT

LIBRARIES = ("aiokafka", "faust-streaming", "msgspec", "orjson", "starlette", "uvicorn", "uvloop")


def describe(*, with_peers: bool) -> list[tuple[str, str]]:
    """Names and values, in the order of the published table."""
    model = _field("/proc/cpuinfo", "model name")
    found = [
        ("Date", datetime.now(UTC).strftime("%Y-%m-%d")),
        ("Commit", _commit()),
        ("Processor", f"{model}, {len(os.sched_getaffinity(0))} cores"),
        ("Memory", f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB"),
        ("System", f"Linux {platform.release()}"),
        ("Python", f"{platform.python_version()}, {_build()}"),
        ("Kafka", f"{KAFKA_VERSION}, one broker"),
        ("Libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)),
    ]
    if with_peers:
        packages = ", ".join(f"{name} {number}" for name, number in peers.versions().items())
        found.append(("Peers, of Debian", packages))
        if peers.build_collector() is not None:
            collector = f"OpenTelemetry Collector {peers.COLLECTOR_VERSION}"
            found.append(("Peers, built with Go", collector))
    return found


def _build() -> str:
    """How the interpreter was built: without optimizations it takes 1.5 times as long."""
    if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")):
        return "built with optimizations"
    return "the system's" if sys.base_prefix == "/usr" else "built without optimizations"


def _field(file: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.+)$", Path(file).read_text(), re.MULTILINE)
    return match[1] if match else "unknown"


def _commit() -> str:
    """The checkout's commit, with `+` if files differ from it."""
    git = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty=+"]
    result = subprocess.run(git, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
