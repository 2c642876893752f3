"""Images under the names and tags that docker-compose.yml and the Dockerfile use, for an engine
that cannot pull the real ones.

Each has the program, user, folders and volumes of the real image. Prometheus, Alertmanager,
VictoriaMetrics and vmalert are built from the Go modules of the pinned versions, Kafka is its jars
of the pinned version, with Kafka's own program that turns KAFKA_* variables into a configuration.
HAProxy, Python, and Alpine's busybox and curl are Debian's. There is none for Grafana, which does
not exist as a package.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docker import go_programs
from tests.docker.engine import Engine
from tests.docker.go_programs import pinned
from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.install import install_kafka
from tools import debian

BASE = "tobogganing-stand-in/debian:bookworm"
PACKAGES = (
    *("busybox-static", "ca-certificates", "curl", "haproxy", "openjdk-17-jre-headless"),
    # debootstrap does not find what provides the virtual python3.11-distutils.
    *("python3-distutils", "python3.11-venv"),
)
BASE_LABEL = f"packages={','.join(PACKAGES)}"
SOURCES = Path(__file__).with_name("images")
"""A folder with the Dockerfile of each stand-in."""
ASIDE = ("grafana",)
"""Services without a stand-in."""
PYTHON = "python:3.11-slim-bookworm"
ALPINE = "alpine:3.22"

Files = Mapping[str, Callable[[], Path]]
"""Files that a Dockerfile copies, by their names there."""

PROGRAMS: Mapping[str, Files] = {
    "prom/prometheus": {"prometheus": go_programs.prometheus},
    "prom/alertmanager": {"alertmanager": go_programs.alertmanager},
    "victoriametrics/victoria-metrics": {"victoria-metrics": go_programs.victoria_metrics},
    "victoriametrics/vmalert": {"vmalert": go_programs.vmalert},
    "haproxy": {},
}


def make_stand_ins(engine: Engine) -> list[str]:
    """Build the images; return a line for each stand-in.

    Docker's cache has those that have not changed.
    """
    if engine.has_registry:
        return []
    if not engine.docker("images", "--quiet", f"--filter=label={BASE_LABEL}", BASE).strip():
        _import_base(engine)
    build(engine, PYTHON, "python", _registry_access)
    build(engine, ALPINE, "alpine", lambda _: None)
    kafka = f"apache/kafka:{pinned('apache/kafka')}"
    build(engine, kafka, "kafka", _copy_jars)
    names = [PYTHON, ALPINE, kafka]
    for image, files in PROGRAMS.items():
        names.append(f"{image}:{pinned(image)}")

        def copy(folder: Path, files: Files = files) -> None:
            for name, program in files.items():
                shutil.copy2(program(), folder / name)

        build(engine, names[-1], image.rpartition("/")[2], copy)
    return [f"{name} is a stand-in" for name in names] + [f"{name} is left out" for name in ASIDE]


def build(engine: Engine, name: str, source: str, fill: Callable[[Path], object]) -> None:
    """Build an image. `fill` adds files to the folder of its Dockerfile."""
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch) / source
        shutil.copytree(SOURCES / source, context)
        fill(context)
        engine.docker("build", "--tag", name, context)


def _import_base(engine: Engine) -> None:
    """Make Debian's base system with the packages that the stand-ins need."""
    (package,) = debian.unpacked("debootstrap")
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="debootstrap.") as scratch:
        system = Path(scratch) / "system"
        # An image needs no file on disk before it is complete.
        include = f"--include={','.join(PACKAGES)}"
        subprocess.run(
            [
                *("sh", package / "usr/sbin/debootstrap", "--variant=minbase", include),
                *("bookworm", system),
            ],
            env=os.environ | {"DEBOOTSTRAP_DIR": str(package / "usr/share/debootstrap")},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        archive = Path(scratch) / "system.tar"
        subprocess.run(
            ["tar", "-C", system, "-cf", archive, "--exclude=./var/cache/apt/*.bin", "."],
            check=True,
        )
        engine.docker("import", f"--change=LABEL {BASE_LABEL}", archive, BASE)


def _copy_jars(folder: Path) -> None:
    (folder / "libs").mkdir()
    for jar in install_kafka().jars:
        shutil.copy(jar, folder / "libs")


def _registry_access(folder: Path) -> None:
    """Configure pip in the image with this machine's registry."""
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", folder)
    configuration = Path("/etc/pip.conf")
    text = configuration.read_text(encoding="utf-8") if configuration.exists() else ""
    (folder / "pip.conf").write_text(text, encoding="utf-8")
