"""Programs of Debian packages, unpacked into the cache: nothing is installed, no root is needed."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from tobogganing.local.cache import cache_folder
from tobogganing.local.locks import exclusive

DOWNLOAD_TIMEOUT = 300


def unpacked(*packages: str) -> list[Path]:
    """The folders of these packages' files, fetched where they are missing.

    Without apt-get the test that asks is skipped; with CI=true it fails.
    """
    base = cache_folder() / "debian"
    with exclusive(base / "lock"):
        missing = [name for name in packages if not (base / name).exists()]
        if missing:
            _fetch(base, missing)
    return [base / name for name in packages]


def _fetch(base: Path, packages: list[str]) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        give_up(f"no apt-get here to fetch {' '.join(packages)} with")
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
        give_up(f"apt-get could not fetch {' '.join(packages)}: {result.stderr}")
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


def give_up(reason: str) -> NoReturn:
    """Skip the test that asks; in CI, where everything must be, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
