"""The installation that brokers run from: Java, Kafka's jars, and a class-data sharing archive.

With the archive brokers start in half the time, with less memory. The JVM writes it when it ends;
of the brokers that start without one, one records it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.disk import disk_faults
from tobogganing.devstack.jars import fetch_jars
from tobogganing.devstack.java import Java, find_java
from tobogganing.devstack.locks import LockedError, acquire

HEAP = "256m"
STOPPED_BY_SIGTERM = (0, 143, -15)
"""Exit codes of a JVM with a complete archive."""


@dataclass(frozen=True)
class Install:
    java: Java
    jars: tuple[Path, ...]
    archive: Path

    def command(self, *flags: str) -> list[str]:
        """Return the common part of a JVM command: Java, its flags and the class path."""
        return [
            str(self.java.path),
            f"-Xmx{HEAP}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            *flags,
            "-Djava.awt.headless=true",
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-cp",
            ":".join(map(str, self.jars)),
        ]


def install_kafka(environ: Mapping[str, str] | None = None) -> Install:
    """Java and Kafka from the cache, downloaded if necessary.

    Raises:
        LocalError: a download failed; the text says what to do.
    """
    cache = cache_folder(environ)
    with disk_faults(cache, "TOBOGGANING_CACHE"):
        java = find_java(cache, environ)
        jars = tuple(fetch_jars(cache, environ))
    return Install(java, jars, archive_path(cache, java, jars))


def archive_path(cache: Path, java: Java, jars: Sequence[Path]) -> Path:
    """The archive for this Java and class path."""
    identity = "\n".join([str(java.path), java.version, *map(str, jars)])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return cache / f"kafka-classes-{digest}.jsa"


class CdsArchive:
    """How one broker uses the CDS archive: reads it, records it, or neither."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._recording = archive.with_suffix(".part")
        self._lock: IO[str] | None = None

    def flags(self) -> list[str]:
        """Flags for the next JVM."""
        if self._archive.exists():
            return [f"-XX:SharedArchiveFile={self._archive}"]
        try:
            self._lock = acquire(self._archive.with_suffix(".lock"), wait=False)
        except LockedError:
            return []
        self._recording.unlink(missing_ok=True)
        return [f"-XX:ArchiveClassesAtExit={self._recording}"]

    def ended(self, code: int) -> None:
        """Keep the recorded archive if the JVM's exit code says that it is complete."""
        if self._lock is None:
            return
        if code in STOPPED_BY_SIGTERM and self._recording.exists():
            self._recording.replace(self._archive)
        else:
            self._recording.unlink(missing_ok=True)
        self._lock.close()
        self._lock = None
