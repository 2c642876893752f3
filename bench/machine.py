"""What a run was made on, and with."""

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
from bench.collector import VERSION, build_collector
from tobogganing.devstack.install import install_kafka
from tobogganing.devstack.run_config import CHECKOUT

LIBRARIES = ("aiokafka", "faust-streaming", "msgspec", "orjson", "starlette", "uvicorn", "uvloop")


def describe(*, with_peers: bool) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are shown."""
    jar = next(path.name for path in install_kafka().jars if path.name.startswith("kafka_"))
    kafka = jar.removesuffix(".jar").rpartition("-")[2]
    model = _field("/proc/cpuinfo", "model name")
    found = [
        ("Date", datetime.now(UTC).strftime("%Y-%m-%d")),
        ("Commit", _commit()),
        ("Processor", f"{model}, {len(os.sched_getaffinity(0))} cores"),
        ("Memory", f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB"),
        ("System", f"Linux {platform.release()}"),
        ("Python", f"{platform.python_version()}, {_build()}"),
        ("Kafka", f"{kafka}, one broker"),
        ("Libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)),
    ]
    if with_peers:
        told = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
        found.append(("Beside it, of Debian", told))
        if build_collector() is not None:
            found.append(("Beside it, built with Go", f"OpenTelemetry Collector {VERSION}"))
    return found


def load() -> float:
    """Processes that have run or waited for a core, on average over the last minute."""
    return os.getloadavg()[0]


def _build() -> str:
    """How the interpreter was built, which makes it half as fast again or not."""
    if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")):
        return "built with optimizations"
    return "the system's" if sys.base_prefix == "/usr" else "built without optimizations"


def _field(file: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.+)$", Path(file).read_text(), re.MULTILINE)
    return match[1] if match else "unknown"


def _commit() -> str:
    """The checkout's commit; `+` where files differ from it."""
    git = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty=+"]
    result = subprocess.run(git, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
