"""The programs of the images that are not ours, from Debian's packages."""

import shutil
from pathlib import Path

from tests.debian import or_give_up, unpacked
from tobogganing.local import debian
from tobogganing.local.debian import Program


def haproxy() -> Program:
    return or_give_up(debian.haproxy)


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
    return or_give_up(debian.victoria_metrics)


def vmalert() -> Program:
    return or_give_up(lambda: debian.program("victoria-metrics", "usr/bin/vmalert"))
