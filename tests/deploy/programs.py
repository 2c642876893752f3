"""The programs of third-party images, from Debian's packages."""

import os
import shutil
from pathlib import Path

from tests.debian import or_give_up, unpacked
from tobogganing.devstack.cache import cache_folder
from tools import debian
from tools.debian import Program


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


def busybox() -> Path:
    """One file that needs no library."""
    (package,) = unpacked("busybox-static")
    return package / "bin/busybox"


def shellcheck() -> Program:
    return or_give_up(
        lambda: debian.program("shellcheck", "usr/bin/shellcheck", "libffi8", "libgmp10")
    )


def jsonnet() -> Program:
    return or_give_up(lambda: debian.program("jsonnet", "usr/bin/jsonnet", "libjsonnet0"))


def go() -> Program:
    """The oldest Go that examples/go supports; it contacts no registry."""
    packages = unpacked("golang-1.19-go", "golang-1.19-src")
    tree = cache_folder() / "debian" / "golang-1.19"
    if not tree.exists():  # each package has a part of the same folders
        scratch = tree.with_name(f"golang-1.19.{os.getpid()}")
        for package in packages:
            shutil.copytree(
                package, scratch, symlinks=True, dirs_exist_ok=True, copy_function=os.link
            )
        try:
            scratch.rename(tree)
        except OSError:  # somebody was faster
            shutil.rmtree(scratch)
    return Program(tree / "usr/lib/go-1.19/bin/go")


def go_environ() -> dict[str, str]:
    """The environment of Go's commands: a cache, and no C compiler."""
    return {
        "CGO_ENABLED": "0",
        "GOCACHE": str(cache_folder() / "go-build"),
        "GOFLAGS": "-buildvcs=false",
        "GOPATH": str(cache_folder() / "go"),
        "GOPROXY": "off",
        "PATH": f"{go().path.parent}:/usr/bin:/bin",
    }
