"""A Dockerfile on Alpine without Docker: its steps are run, by busybox, below another root folder.

What Alpine brings is Debian's busybox; what `apk add` would fetch, and flock, which is in Alpine's
busybox only, are this machine's. Needs root, as Docker does.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.deploy import program_log
from tests.deploy.image import instructions

USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
GROUPS = "root:x:0:root\nnobody:x:65534:\n"
APK = """#!/bin/sh
[ "$1 $2" = "add --no-cache" ] || exit 1
shift 2
for package in "$@"; do mv "/packages/$package" /usr/bin/ || exit 1; done
"""
ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Image:
    """What `docker build` with these arguments would make."""

    def __init__(self, arguments: Sequence[str], busybox: Path, root: Path) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--tag", required=True)
        parser.add_argument("context", type=Path)
        given = parser.parse_args(arguments)
        self.tag: str = given.tag
        self.root = root
        self.environ = dict(ENVIRON)
        self.command: list[str] = []
        self.health_command = ""
        self.stop_signal = signal.SIGTERM
        self._alpine(busybox)
        for line in instructions(given.context / "Dockerfile"):
            self._step(given.context, line.name, line.text)

    def shell(self, text: str) -> int:
        """Run a command as RUN and HEALTHCHECK do; return its exit status."""
        return subprocess.run(
            self._inside("/bin/sh", "-c", text), env=self.environ, timeout=60, check=False
        ).returncode

    def run(
        self, arguments: Sequence[str], environ: Mapping[str, str], output: Path
    ) -> subprocess.Popen[bytes]:
        """Start what `docker run` with these arguments and this environment would start."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--detach", action="store_true")
        parser.add_argument("--network", choices=["host"])
        parser.add_argument("--env", action="append", default=[])
        parser.add_argument("--volume", action="append", default=[])
        parser.add_argument("image", choices=[self.tag])
        given = parser.parse_args(arguments)
        inside = dict(self.environ)
        for text in given.env:
            name, equals, value = text.partition("=")
            inside[name] = value if equals else environ[name]
        for text in given.volume:
            source, target = text.split(":")[:2]
            if "/" in source:  # else it is a volume, with what the image has there
                self._put(Path(source), self.root / target.strip("/"))
        if given.network == "host":
            self._see(Path("/"))
        program_log.note(self.command[0])
        with output.open("wb") as log:
            return subprocess.Popen(
                self._inside(*self.command),
                env=inside,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _see(self, host: Path) -> None:
        """Have the interfaces and the uptime of this machine, as they are now."""
        files = host.glob("sys/class/net/*/statistics/[rt]x_[bp]*")
        for file in [host / "proc/uptime", *files]:
            target = self.root / file.relative_to(host)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())

    def _inside(self, *command: str) -> list[str | Path]:
        return ["chroot", self.root, *command]

    def _alpine(self, busybox: Path) -> None:
        for folder in (
            "bin",
            "dev",
            "etc/crontabs",
            "packages",
            "run",
            "sbin",
            "tmp",
            "usr/bin",
            "usr/local/bin",
            "var/lib",
        ):
            (self.root / folder).mkdir(parents=True)
        shutil.copy(busybox, self.root / "bin/busybox")
        applets = subprocess.run(
            [busybox, "--list"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.split()
        for applet in applets:
            if applet != "busybox":
                (self.root / "bin" / applet).symlink_to("busybox")
        (self.root / "etc/passwd").write_text(USERS)
        (self.root / "etc/group").write_text(GROUPS)
        # Plain files instead of devices, which not every machine lets root make.
        for device in ("null", "stderr"):
            (self.root / "dev" / device).touch()
            (self.root / "dev" / device).chmod(0o666)
        (self.root / "dev/urandom").write_bytes(os.urandom(16))
        (self.root / "sbin/apk").write_text(APK)
        (self.root / "sbin/apk").chmod(0o755)
        self._program("curl", "packages")
        self._program("flock", "usr/bin")

    def _program(self, name: str, folder: str) -> None:
        """Copy a program of this machine, and the libraries that it needs."""
        program = shutil.which(name)
        assert program, f"there is no {name} here"
        shutil.copy(program, self.root / folder)
        listing = subprocess.run(
            ["ldd", program], capture_output=True, text=True, check=True, timeout=10
        ).stdout
        for library in re.findall(r"(/\S+) \(", listing):
            target = self.root / library.strip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)

    def _step(self, context: Path, name: str, text: str) -> None:
        match name:
            case "FROM":
                assert re.fullmatch(r"alpine:\d+\.\d+", text)
            case "RUN":
                assert self.shell(text) == 0, text
            case "COPY":
                source, target = text.split()
                place = self.root / target.strip("/")
                self._put(context / source, place / source if target.endswith("/") else place)
            case "ENV":
                self.environ |= dict(word.split("=", 1) for word in shlex.split(text))
            case "HEALTHCHECK":
                self.health_command = text.split(" CMD ", 1)[1]
            case "STOPSIGNAL":
                self.stop_signal = signal.Signals[text]
            case "CMD":
                self.command = json.loads(text)
            case "VOLUME":
                assert (self.root / text.strip("/")).is_dir()
            case _:
                raise AssertionError(f"nobody knows {name} here")

    def _put(self, source: Path, target: Path) -> None:
        """Copy a file as COPY does; a mounted one keeps its owner and mode."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        owner = source.stat()
        os.chown(target, owner.st_uid, owner.st_gid)
