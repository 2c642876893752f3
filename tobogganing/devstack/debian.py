"""Programs of Debian packages, unpacked into the cache: nothing is installed, no root is needed."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tobogganing.errors import LocalError

DOWNLOAD_TIMEOUT = 300


class Program(NamedTuple):
    """Where a program is, and the folders of libraries that it needs."""

    path: Path
    libraries: tuple[Path, ...] = ()

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": ":".join(map(str, self.libraries))}


def program(package: str, path: str, *libraries: str) -> Program:
    """The program at `path` of a package, with the packages of its libraries.

    Raises:
        LocalError: a package could not be fetched.
    """
    folder, *others = unpacked(package, *libraries)
    found = {file.parent for other in others for file in other.rglob("lib*.so*")}
    return Program(folder / path, tuple(sorted(found)))


def haproxy() -> Program:
    libraries = ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
    return program("haproxy", "usr/sbin/haproxy", *libraries)


def victoria_metrics() -> Program:
    return program("victoria-metrics", "usr/bin/victoria-metrics")


def unpacked(*packages: str) -> list[Path]:
    """The folders of these packages' files, fetched where they are missing.

    Raises:
        LocalError: there is no apt-get here, or it could not fetch them.
    """
    base = cache_folder() / "debian"
    with exclusive(base / "lock"):
        missing = [name for name in packages if not (base / name).exists()]
        if missing:
            _fetch(base, missing)
    return [base / name for name in packages]


def _fetch(base: Path, packages: list[str]) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise LocalError(f"no apt-get here to fetch {' '.join(packages)} with")
    scratch = base / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    result = _apt(scratch, "download", *packages)
    if result.returncode:
        # A fresh container has no lists of packages: take some that are only ours.
        for folder in ("lists/partial", "archives/partial"):
            (scratch / folder).mkdir(parents=True)
        own = [f"-oDir::State::Lists={scratch}/lists", f"-oDir::Cache={scratch}"]
        own.append("-oAPT::Sandbox::User=")
        _apt(scratch, *own, "update")
        result = _apt(scratch, *own, "download", *packages)
    if result.returncode:
        raise LocalError(f"apt-get could not fetch {' '.join(packages)}: {result.stderr}")
    for package in packages:
        (archive,) = scratch.glob(f"{package}_*.deb")
        files = scratch / package
        subprocess.run(["dpkg", "-x", archive, files], check=True, timeout=DOWNLOAD_TIMEOUT)
        files.rename(base / package)
    shutil.rmtree(scratch)


def _apt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "--quiet", *arguments],
        cwd=folder,
        env=os.environ | {"LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_TIMEOUT,
        check=False,
    )
