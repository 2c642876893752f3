"""Java, Kafka's jars and the JVM's flags: all that a broker is started from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.cds_archive import archive_path
from tobogganing.devstack.disk import disk_faults
from tobogganing.devstack.jars import fetch_jars
from tobogganing.devstack.java import Java, find_java

HEAP = "256m"


@dataclass(frozen=True)
class Install:
    java: Java
    jars: tuple[Path, ...]
    archive: Path

    def command(self, *flags: str) -> list[str]:
        """The start of a command line: Java, its flags and the class path."""
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
