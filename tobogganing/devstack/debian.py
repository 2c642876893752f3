"""Programs from Debian packages, unpacked into the cache without installing them, without root."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tobogganing.devstack.progress_line import ProgressLine
from tobogganing.errors import LocalError

DOWNLOAD_TIMEOUT = 300


class Program(NamedTuple):
    """A program's path, and the folders of the libraries that it needs."""

    path: Path
    libraries: tuple[Path, ...] = ()

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": ":".join(map(str, self.libraries))}


def program(package: str, path: str, *libraries: str) -> Program:
    """The program at `path` of a package, with the packages of its libraries.

    Raises:
        LocalError: a package could not be downloaded.
    """
    folder, *others = unpacked(package, *libraries)
    found = {file.parent for other in others for file in other.rglob("lib*.so*")}
    return Program(folder / path, tuple(sorted(found)))


def unpacked(*packages: str) -> list[Path]:
    """The folders with the files of these packages, downloaded if necessary.

    Raises:
        LocalError: there is no apt-get, or it could not download them.
    """
    base = cache_folder() / "debian"
    with exclusive(base / "lock"):
        missing = [name for name in packages if not (base / name).exists()]
        if missing:
            _download(base, missing)
    return [base / name for name in packages]


def _download(base: Path, packages: list[str]) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise LocalError(f"{' '.join(packages)}: apt-get and dpkg are needed to download packages")
    with ProgressLine(f"Downloading Debian packages: {' '.join(packages)}"):
        _unpack(base, packages)


def _unpack(base: Path, packages: list[str]) -> None:
    scratch = base / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    result = _apt(scratch, "download", *packages)
    if result.returncode:
        # A fresh container has no package lists: download some into the scratch folder.
        for folder in ("lists/partial", "archives/partial"):
            (scratch / folder).mkdir(parents=True)
        own = [f"-oDir::State::Lists={scratch}/lists", f"-oDir::Cache={scratch}"]
        own.append("-oAPT::Sandbox::User=")
        _apt(scratch, *own, "update")
        result = _apt(scratch, *own, "download", *packages)
    if result.returncode:
        raise LocalError(f"apt-get could not download {' '.join(packages)}: {result.stderr}")
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
