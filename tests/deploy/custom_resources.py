"""Schemas of custom resources: those of KEDA and of the Prometheus operator.

Each comes from the project's Go module, whose checksum is pinned, and is added to the validator's
schemas. CEL rules are not checked.
"""

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.debian import or_give_up
from tests.deploy import program_log, programs
from tests.deploy.kubectl import Object, load_yaml, schema_folders
from tobogganing.devstack.cache import cache_folder
from tobogganing.errors import LocalError


class Module(NamedTuple):
    """A version of a Go module, with its checksum as in go.sum files."""

    path: str
    version: str
    sum: str


KEDA = Module(
    "github.com/kedacore/keda/v2",
    "v2.21.0",
    "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
)
OPERATOR = Module(
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
)
DEFINITIONS = {
    "ScaledObject": (KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml"),
    "TriggerAuthentication": (KEDA, "config/crd/bases/keda.sh_triggerauthentications.yaml"),
    "PrometheusRule": (
        OPERATOR,
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "ServiceMonitor": (
        OPERATOR,
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
}


PASSED_ON = ("GOPROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
"""Go's environment, with its module proxy."""


@functools.cache
def fetched(module: Module) -> Path:
    """The folder with a module's files, downloaded from Go's proxy if it is missing."""
    return or_give_up(lambda: _fetch(module))


def _fetch(module: Module) -> Path:
    """
    Raises:
        LocalError: it could not be downloaded, or differs from the pinned one.
    """
    program_log.note("go")
    folder = cache_folder()
    environ = programs.go_environ()
    del environ["GOPROXY"]  # the agents of examples/ are built without one
    environ |= {name: value for name, value in os.environ.items() if name.upper() in PASSED_ON}
    environ["GONOSUMDB"] = module.path  # its sum is compared with ours
    done = subprocess.run(
        [programs.go().path, "mod", "download", "-json", f"{module.path}@{module.version}"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise LocalError(f"{module.path} could not be fetched: {done.stdout}{done.stderr}")
    said = json.loads(done.stdout)
    if said["Sum"] != module.sum:
        raise LocalError(f"{module.path} is not what was pinned: its sum is {said['Sum']}")
    return Path(said["Dir"])


def add_schemas() -> None:
    """Add these kinds to the validator."""
    for kind, (module, file) in DEFINITIONS.items():
        (definition,) = load_yaml((fetched(module) / file).read_text(encoding="utf-8"))
        assert definition["spec"]["names"]["kind"] == kind
        group = definition["spec"]["group"].partition(".")[0]
        for version in definition["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            name = f"{kind.lower()}-{group}-{version['name']}.json"
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
            schema["$id"] = f"file://{name}"
            schema["properties"]["metadata"] = {"type": "object"}
            for folder in schema_folders():
                scratch = folder / f"{name}.{os.getpid()}"
                scratch.write_text(json.dumps(schema), encoding="utf-8")
                scratch.replace(folder / name)


def strict(schema: Any) -> Any:
    """A schema that rejects unknown fields, as kubectl's strict validation does."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: Object = {name: strict(value) for name, value in schema.items()}
    named = isinstance(found.get("properties"), dict) and found.get("type") == "object"
    if named and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found
