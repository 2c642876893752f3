"""Programs that are built from their Go modules, in the versions that docker-compose.yml pins."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tobogganing.errors import LocalError

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_VERSION = "v2.40.3"
"""The last 2.x: later modules have another path."""


def compose() -> Path:
    """Docker Compose, as a plugin of the command line."""
    return _built("github.com/docker/compose/v2", COMPOSE_VERSION, "./cmd")


def prometheus() -> Path:
    # Module versions count from 0.300: 0.316.0 is 3.16.0. Of service discovery, only DNS is used.
    major, minor, patch = pinned("prom/prometheus").removeprefix("v").split(".")
    version = f"v0.{int(major)}{int(minor):02}.{patch}"
    return _built("github.com/prometheus/prometheus", version, "./cmd/prometheus")


def alertmanager() -> Path:
    version = pinned("prom/alertmanager")
    return _built("github.com/prometheus/alertmanager", version, "./cmd/alertmanager")


def victoria_metrics() -> Path:
    version = pinned("victoriametrics/victoria-metrics")
    return _built("github.com/VictoriaMetrics/VictoriaMetrics", version, "./app/victoria-metrics")


def vmalert() -> Path:
    version = pinned("victoriametrics/vmalert")
    return _built("github.com/VictoriaMetrics/VictoriaMetrics", version, "./app/vmalert")


def pinned(image: str) -> str:
    """The tag of an image in docker-compose.yml."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    (tag,) = set(re.findall(rf"image: {re.escape(image)}:(\S+)", text))
    return str(tag)


def _built(module: str, version: str, package: str) -> Path:
    """The program of a package, built if it is not in the cache.

    Raises:
        LocalError: the module could not be downloaded or built.
    """
    name = module.rpartition("/v2")[0] or module
    name = name.rpartition("/")[2] if package == "./cmd" else package.rpartition("/")[2]
    target = cache_folder() / "go-programs" / f"{name}-{version}"
    with exclusive(target.with_name(f"{target.name}.lock")):
        if not target.exists():
            source = json.loads(
                _go(cache_folder(), "mod", "download", "-json", f"{module}@{version}")
            )
            scratch = target.with_name(f"{target.name}.{os.getpid()}")
            # In the module's own folder, its `replace` and `exclude` lines and its go.sum apply.
            words = ("-trimpath", "-ldflags=-s -w", "-o", str(scratch), package)
            _go(Path(source["Dir"]), "build", *words)
            scratch.rename(target)
    return target


def _go(folder: Path, *words: str) -> str:
    program = shutil.which("go")
    if program is None:
        raise LocalError("Go is needed to build Docker Compose, Prometheus and VictoriaMetrics")
    folder.mkdir(parents=True, exist_ok=True)
    environ = os.environ | {
        "CGO_ENABLED": "0",
        "GOCACHE": str(cache_folder() / "go-build"),
        "GOPATH": str(cache_folder() / "go"),
    }
    done = subprocess.run(
        [program, *words], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"go {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout
