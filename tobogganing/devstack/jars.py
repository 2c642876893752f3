"""Kafka's jars: pinned by hash, downloaded once into the cache, verified at each start."""

import errno
import hashlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tobogganing.devstack.locks import exclusive
from tobogganing.devstack.progress_line import ProgressLine
from tobogganing.errors import LocalError

KAFKA_VERSION = "4.3.1"
MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")
CONNECTIONS = 6
ATTEMPTS = 4
TIMEOUT = 30
"""Seconds without data after which a download fails."""
CHUNK = 1 << 16
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EFBIG),
)
"""Error numbers of the disk, for which another attempt is useless. urllib's errors have none."""


@dataclass(frozen=True)
class Jar:
    """A file; `path` is within a Maven repository."""

    sha256: str
    size: int
    path: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class ByteCount:
    """Bytes received by all downloads; those of a failed attempt count, too."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self.total += size


class _CancelledError(Exception):
    """Another download failed, or the user stopped the program."""


def read_lock(text: str) -> list[Jar]:
    """The jars of a lock file, in class path order."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return [Jar(sha256, int(size), path) for sha256, size, path in lines]


def is_intact(jar: Jar, file: Path) -> bool:
    """Whether `file` is the pinned jar."""
    try:
        if file.stat().st_size != jar.size:
            return False
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def fetch_jars(cache: Path, environ: Mapping[str, str] | None = None) -> list[Path]:
    """Kafka's class path, with every file present and verified.

    Missing and damaged jars are downloaded from MAVEN_MIRROR (default: Maven Central). Of several
    processes that call this at once, one downloads.

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
    """Download the jars that are not intact in `folder`."""
    if not _missing(jars, folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f"{folder.name}.lock")):
        missing = _missing(jars, folder)
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        if missing:
            _download_all(missing, folder, mirror)


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        intact = pool.map(lambda jar: is_intact(jar, folder / jar.name), jars)
        return [jar for jar, good in zip(jars, intact, strict=True) if not good]


def _download_all(jars: Sequence[Jar], folder: Path, mirror: str) -> None:
    stop = threading.Event()
    megabytes = sum(jar.size for jar in jars) / 1e6
    received = ByteCount()
    line = ProgressLine(
        f"Downloading Apache Kafka {KAFKA_VERSION}",
        lambda: f"{received.total / 1e6:.0f} of {megabytes:.0f} MB",
    )
    with line, ThreadPoolExecutor(CONNECTIONS) as pool:
        largest_first = sorted(jars, key=lambda jar: -jar.size)
        futures = [
            pool.submit(_download, jar, folder, mirror, stop, received) for jar in largest_first
        ]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # also after Ctrl-C, the other downloads must end
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _download(
    jar: Jar, folder: Path, mirror: str, stop: threading.Event, received: ByteCount
) -> None:
    url = f"{mirror}/{jar.path}"
    part = folder / f"{jar.name}.part"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            digest, size = _save(url, jar.size, part, stop, received)
            break
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            is_final = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404)
            if is_final or attempt == ATTEMPTS:
                raise LocalError(
                    f"{url} could not be downloaded: {error}. Check the network and its proxy "
                    "(HTTPS_PROXY, SSL_CERT_FILE), or set MAVEN_MIRROR to another Maven "
                    "repository. Downloaded files are kept."
                ) from error
            stop.wait(2.0 ** (attempt - 2))
    if (digest, size) != (jar.sha256, jar.size):
        part.unlink()
        raise LocalError(
            f"{url} is not the pinned file (SHA-256 {digest}, expected {jar.sha256}): it was not "
            "installed. If MAVEN_MIRROR is set, check that mirror."
        )
    part.replace(folder / jar.name)


def _save(
    url: str, size: int, part: Path, stop: threading.Event, received: ByteCount
) -> tuple[str, int]:
    """Download to `part`, durably; return SHA-256 and size. A longer response is cut off."""
    digest = hashlib.sha256()
    count = 0
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, part.open("wb") as file:
        while count <= size and (chunk := response.read(CHUNK)):
            if stop.is_set():
                raise _CancelledError
            count += len(chunk)
            received.add(len(chunk))
            digest.update(chunk)
            file.write(chunk)
        if count < size:
            raise HTTPException(f"{count} of {size} bytes were received")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), count
