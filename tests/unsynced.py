"""A power cut as seen by the disk: only the synced part of each log is left.

A broker runs with a library that records its syncs (`file_syncs.c`). Once it is killed, its logs
are cut where the last sync ended: everything after that was in the page cache only.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.install import Install, archive_path
from tobogganing.devstack.java import find_java

SOURCE = Path(__file__).with_name("file_syncs.c")


@dataclass(frozen=True)
class SyncedJava:
    """A Java that records the syncs of its programs; `home` is a JAVA_HOME."""

    home: Path
    journal: Path

    @classmethod
    def make(cls, folder: Path) -> "SyncedJava":
        """Create it in an empty folder, as a wrapper of the usual Java."""
        library, journal = folder / "file_syncs.so", folder / "synced"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)
        java = folder / "home" / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(
            f'#!/bin/sh\nLD_PRELOAD="{library}" SYNCED="{journal}" exec '
            f'"{find_java(cache_folder()).path}" "$@"\n'
        )
        java.chmod(0o755)
        return cls(folder / "home", journal)

    def of(self, install: Install) -> Install:
        """The same Kafka, on this Java."""
        return replace(install, java=replace(install.java, path=self.home / "bin" / "java"))

    @contextlib.contextmanager
    def with_classes_of(self, install: Install) -> Iterator[None]:
        """Let a local run on this Java read the classes that were archived for the same Java.

        It would archive its own, in seconds, and they would stay in the cache.
        """
        java = find_java(cache_folder(), os.environ | {"JAVA_HOME": str(self.home)})
        link = archive_path(cache_folder(), java, install.jars)
        link.symlink_to(install.archive)
        try:
            yield
        finally:
            link.unlink()

    def drop_unsynced(self, data: Path) -> dict[str, int]:
        """Cut the logs of a broker that was killed; return how many bytes, by file.

        Indexes and producer states are removed, too: Kafka rebuilds them.
        """
        synced: dict[str, int] = {}
        for line in self.journal.read_text().splitlines():
            size, _, path = line.partition(" ")
            synced[path] = max(int(size), synced.get(path, 0))
        cut = {}
        for log in data.rglob("*.log"):
            lost = log.stat().st_size - synced.get(str(log), 0)
            if lost > 0:
                with log.open("r+b") as file:
                    file.truncate(log.stat().st_size - lost)
                cut[f"{log.parent.name}/{log.name}"] = lost
        for pattern in ("*.index", "*.timeindex", "*.txnindex"):
            for file_ in data.rglob(pattern):
                file_.unlink()
        for folder in data.glob("*-*"):
            for snapshot in folder.glob("*.snapshot"):
                snapshot.unlink()
        return cut
