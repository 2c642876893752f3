"""Kafka's jars: the pinned list, downloaded once into the cache and verified at each start."""

import errno
import hashlib
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tobogganing.devstack.locks import exclusive
from tobogganing.errors import LocalError
from tobogganing.progress import Progress

KAFKA_VERSION = "4.3.1"
MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")
CONNECTIONS = 6
ATTEMPTS = 4
TIMEOUT = 30
"""Seconds that a server may keep silent."""
CHUNK = 1 << 16
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EFBIG),
)
"""Numbers of errors of the disk: another attempt does not help. urllib's own errors have none."""


@dataclass(frozen=True)
class Jar:
    sha256: str
    size: int
    path: str
    """Path within a Maven repository."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class _CancelledError(Exception):
    """Another download failed, or the user stopped the program."""


def read_lock(text: str) -> list[Jar]:
    """The jars of a lock file's text, in class path order."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return [Jar(sha256, int(size), path) for sha256, size, path in lines]


def is_intact(jar: Jar, file: Path) -> bool:
    """Whether `file` is exactly `jar`."""
    try:
        if file.stat().st_size != jar.size:
            return False
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def fetch_jars(cache: Path, environ: Mapping[str, str] | None = None) -> list[Path]:
    """Kafka's class path, in order: every file is present and verified.

    Missing or damaged jars come from MAVEN_MIRROR (default: Maven Central). Several processes may
    call this at once; one of them downloads.

    Raises:
        LocalError: a jar could not be downloaded, or is not the pinned one.
    """
    environ = os.environ if environ is None else environ
    mirror = (environ.get("MAVEN_MIRROR") or MAVEN_CENTRAL).rstrip("/")
    folder = cache / f"kafka-{KAFKA_VERSION}"
    jars = read_lock(LOCK_FILE.read_text(encoding="ascii"))
    download_missing(jars, folder, mirror)
    return [folder / jar.name for jar in jars]


def download_missing(jars: Sequence[Jar], folder: Path, mirror: str) -> None:
    """Make `folder` hold every one of `jars`; those that are intact are left alone."""
    if not _missing(jars, folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f"{folder.name}.lock")):
        missing = _missing(jars, folder)
        if not missing:
            return
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        total = sum(jar.size for jar in missing)
        with Progress(f"Apache Kafka {KAFKA_VERSION}", total, sys.stderr) as progress:
            _download_all(missing, folder, mirror, progress)


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        intact = pool.map(lambda jar: is_intact(jar, folder / jar.name), jars)
        return [jar for jar, good in zip(jars, intact, strict=True) if not good]


def _download_all(jars: Sequence[Jar], folder: Path, mirror: str, progress: Progress) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        largest_first = sorted(jars, key=lambda jar: -jar.size)
        futures = [
            pool.submit(_download, jar, folder, mirror, progress, stop) for jar in largest_first
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _download(
    jar: Jar, folder: Path, mirror: str, progress: Progress, stop: threading.Event
) -> None:
    url = f"{mirror}/{jar.path}"
    part = folder / f"{jar.name}.part"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            found = _save(url, jar, part, progress, stop)
            break
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            gone = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404)
            if gone or attempt == ATTEMPTS:
                raise LocalError(
                    f"{url} could not be downloaded: {error}. Check the network and its proxy "
                    "(HTTPS_PROXY, SSL_CERT_FILE), or name another Maven repository with "
                    "MAVEN_MIRROR. What is downloaded already is kept."
                ) from error
            stop.wait(2.0 ** (attempt - 2))
    if found != jar:
        part.unlink()
        raise LocalError(
            f"{url} is not the pinned file (SHA-256 {found.sha256}, expected {jar.sha256}): "
            "it was not installed. If MAVEN_MIRROR is set, check that mirror."
        )
    part.replace(folder / jar.name)


def _save(url: str, jar: Jar, part: Path, progress: Progress, stop: threading.Event) -> Jar:
    """Write what `url` answers to `part`, durably; what came. A longer answer is cut off."""
    digest = hashlib.sha256()
    count = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as file:
            while chunk := answer.read(CHUNK):
                if stop.is_set():
                    raise _CancelledError
                count += len(chunk)
                progress.add(len(chunk))
                digest.update(chunk)
                file.write(chunk)
                if count > jar.size:
                    break
            if count < jar.size:
                raise HTTPException(f"{count} of {jar.size} bytes came")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        progress.add(-count)
        raise
    return Jar(digest.hexdigest(), count, jar.path)
