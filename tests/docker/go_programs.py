"""Programs that are built from their Go modules, in the versions that docker-compose.yml pins."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tobogganing.errors import LocalError

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_VERSION = "v2.40.3"
"""The last 2.x: later modules have another path."""


def compose() -> Path:
    """Docker Compose, as a plugin of the command line."""
    module = "github.com/docker/compose/v2"
    variable = f"-X {module}/internal.Version={COMPOSE_VERSION}"
    return _built(module, COMPOSE_VERSION, "./cmd", link=variable)


def prometheus() -> Path:
    # Module versions count from 0.300: 0.316.0 is 3.16.0.
    major, minor, patch = pinned("prom/prometheus").removeprefix("v").split(".")
    version = f"v0.{int(major)}{int(minor):02}.{patch}"
    # The clients of all clouds, for service discovery, would triple the time of the build.
    tags = "remove_all_sd,enable_dns_sd"
    return _built("github.com/prometheus/prometheus", version, "./cmd/prometheus", tags=tags)


def alertmanager() -> Path:
    version = pinned("prom/alertmanager")
    # The module has its pages as source only, and does not compile without a file of them.
    pages = {"ui/app/dist/elm/index.html": "Built without pages"}
    module = "github.com/prometheus/alertmanager"
    return _built(module, version, "./cmd/alertmanager", added=pages)


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


def _built(
    module: str,
    version: str,
    package: str,
    *,
    tags: str = "",
    link: str = "",
    added: Mapping[str, str] | None = None,
) -> Path:
    """The program of a package, built if it is not in the cache.

    `added` are files, by their paths in the module, that it lacks.

    Raises:
        LocalError: the module could not be downloaded or built.
    """
    name = module.rpartition("/v2")[0] or module
    name = name.rpartition("/")[2] if package == "./cmd" else package.rpartition("/")[2]
    target = cache_folder() / "go-programs" / f"{name}-{version}"
    with exclusive(target.with_name(f"{target.name}.lock")):
        if not target.exists():
            download = _go(cache_folder(), "mod", "download", "-json", f"{module}@{version}")
            source = Path(json.loads(download)["Dir"])
            scratch = target.with_name(f"{target.name}.{os.getpid()}")
            with _with_files(source, added or {}) as folder:
                # In the module's own folder, its `replace` lines and its go.sum apply.
                link_options = f"-ldflags=-s -w {link}"
                options = (f"-tags={tags}", "-trimpath", link_options, "-o", str(scratch))
                _go(folder, "build", *options, package)
            scratch.rename(target)
    return target


@contextlib.contextmanager
def _with_files(source: Path, added: Mapping[str, str]) -> Iterator[Path]:
    """The folder of a module, or a copy of it that also has the given files."""
    if not added:
        yield source
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "source"
        shutil.copytree(source, folder, copy_function=shutil.copyfile)
        for name, text in added.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        yield folder


def _go(folder: Path, *words: str) -> str:
    program = shutil.which("go")
    if program is None:
        raise LocalError("Go is needed to build Docker Compose, Prometheus and VictoriaMetrics")
    folder.mkdir(parents=True, exist_ok=True)
    environ = os.environ | {
        "CGO_ENABLED": "0",
        "GOCACHE": str(cache_folder() / "go-build"),
        "GOPATH": str(cache_folder() / "go"),
        # A go.work file lists modules that the one in the proxy does not contain.
        "GOWORK": "off",
    }
    done = subprocess.run(
        [program, *words], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"go {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout
