"""Runs the commands of deploy/kubernetes/README.md, by their heading."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy import program_log, readme
from tests.deploy.compose import ROOT
from tests.deploy.kubectl import Object, tools
from tests.deploy.manifests import KUBERNETES, content

WRAPPER = Path(__file__).with_name("cluster_folder.py")


USER = "tobogganing"
PASSWORD = "a password of the tests"
TOP = "# Kubernetes"
DEFINES = ("OVERLAY=", "put()", "umask")
"""Beginnings of lines that later sections need."""


class Walk:
    """A checkout, a shell, and a cluster that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.cluster = folder / "cluster"
        self.cluster.mkdir(parents=True)
        self.checkout = folder / "checkout"
        self.production = self.checkout / "deploy/kubernetes/overlays/production"
        shutil.copytree(ROOT / "deploy", self.checkout / "deploy")
        self.sections = readme.commands(KUBERNETES / "README.md")
        programs = folder / "bin"
        programs.mkdir()
        for name, what in (("kubectl", f"-I -S {WRAPPER}"), ("tobogganing", "-m tobogganing")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {what} "$@"\n')
            (programs / name).chmod(0o755)
        self._environ = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "KUBECTL": str(tools() / "bin/kubectl"),
            "CLUSTER": str(self.cluster),
        }
        self._defined: list[str] = []

    def through(self, heading: str, first: int = 0, last: int | None = None) -> None:
        """Run commands of a section: the lines from `first` to `last`, which is not run."""
        lines = self.sections[heading][first:last]
        program_log.note("a section of deploy/kubernetes/README.md")
        done = subprocess.run(
            ["sh", "-euc", "\n".join([*self._defined, *lines])],
            cwd=self.checkout,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self._defined += [line for line in lines if line.startswith(DEFINES)]

    def secrets_made(self) -> None:
        """Run the first two sections, with Kafka's password."""
        self.through(TOP)
        self.through("Secrets", last=-1)
        for name, text in (("password", PASSWORD), ("ca.crt", "not yet")):
            file = self.checkout / "secrets" / name
            file.touch(mode=0o600)
            file.write_text(text, encoding="ascii")
        self.through("Secrets", first=-1)

    def trust(self, certificate: Path) -> None:
        """Recreate the Secret `kafka` with this certificate."""
        shutil.copyfile(certificate, self.checkout / "secrets/ca.crt")
        self.through("Secrets", first=-1)

    def rotated(self, step: int) -> None:
        """Run a step of the rotation of METRICS_TOKEN; comments separate the steps."""
        lines = self.sections["Rotate"]
        end = next(n for n, line in enumerate(lines) if line.startswith("mv new/signing-keys"))
        cuts = [0, *(n for n, line in enumerate(lines) if line.startswith("#")), end]
        self.through("Rotate", cuts[step], cuts[step + 1])

    def log(self) -> list[str]:
        """The actions on the cluster."""
        return (self.cluster / "log").read_text(encoding="utf-8").splitlines()

    def secrets(self) -> dict[str, Object]:
        """The Secrets that are in the cluster, by name."""
        documents = [json.loads(file.read_text("utf-8")) for file in self.cluster.glob("Secret-*")]
        return {one["metadata"]["name"]: one for one in documents}

    def token(self, secret: str, key: str) -> str:
        return content(self.secrets()[secret])[key].decode().strip()
