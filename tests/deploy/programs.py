"""The programs of the images that are not ours, from Debian's packages."""

import shutil
from pathlib import Path
from typing import NamedTuple

from tests.debian import unpacked


class Program(NamedTuple):
    """Where a program is, and the folders of libraries that it needs."""

    path: Path
    libraries: tuple[Path, ...] = ()

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": ":".join(map(str, self.libraries))}


def haproxy() -> Program:
    folder, *libraries = unpacked(
        "haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"
    )
    found = {file.parent for library in libraries for file in library.rglob("lib*.so.*")}
    return Program(folder / "usr/sbin/haproxy", tuple(sorted(found)))


def alertmanager(folder: Path) -> Program:
    """A copy in `folder`, to be started there.

    Debian's reads its templates from a fixed folder below /usr, where nothing is installed: the
    copy has a name of the same length there instead, of its working folder.
    """
    (package,) = unpacked("prometheus-alertmanager")
    program = package / "usr/bin/prometheus-alertmanager"
    place = "/usr/share/prometheus/alertmanager"
    binary = program.read_bytes()
    assert place.encode() in binary
    copy = folder / program.name
    copy.write_bytes(binary.replace(place.encode(), b"./".ljust(len(place), b"/")))
    copy.chmod(0o700)
    for template in (package / place.strip("/")).glob("*.tmpl"):
        shutil.copy(template, folder)
    return Program(copy)


def victoria_metrics() -> Program:
    (folder,) = unpacked("victoria-metrics")
    return Program(folder / "usr/bin/victoria-metrics")


def vmalert() -> Program:
    (folder,) = unpacked("victoria-metrics")
    return Program(folder / "usr/bin/vmalert")
