"""An Ingress of deploy/kubernetes, as an ingress controller reads it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.deploy.kubectl import Object
from tests.deploy.manifests import Manifests


class Rule(NamedTuple):
    path: str
    is_exact: bool
    service: str


@dataclass(frozen=True)
class Site:
    """What a controller knows. `pods` are the ports on loopback of each service's pods.

    `controller` is what the controller's own ConfigMap has, `files` are the certificate of the
    Ingress with its key, and the CA of client certificates.
    """

    manifests: Manifests
    controller: Mapping[str, str]
    pods: Mapping[str, Sequence[int]]
    certificate: Path
    client_ca: Path

    @property
    def _ingress(self) -> Object:
        return self.manifests.one("Ingress", "tobogganing")

    @property
    def class_name(self) -> str:
        return str(self._ingress["spec"]["ingressClassName"])

    @property
    def host(self) -> str:
        (rule,) = self._ingress["spec"]["rules"]
        (tls,) = self._ingress["spec"]["tls"]
        assert tls["hosts"] == [rule["host"]]
        return str(rule["host"])

    def rules(self) -> list[Rule]:
        (rule,) = self._ingress["spec"]["rules"]
        return [
            Rule(
                path["path"],
                {"Exact": True, "Prefix": False}[path["pathType"]],
                path["backend"]["service"]["name"],
            )
            for path in rule["http"]["paths"]
        ]

    def annotations(self, prefix: str) -> dict[str, str]:
        """Return the annotations of a controller, without their prefix."""
        found: dict[str, str] = self._ingress["metadata"]["annotations"]
        return {
            name.removeprefix(prefix): value
            for name, value in found.items()
            if name.startswith(prefix)
        }


class Values:
    """Takes annotations out one by one, each with the form that its controller accepts."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._left = dict(given)

    def take(self, name: str, form: str, default: str) -> str:
        """Return a value, or the controller's default if it is not set."""
        value = self._left.pop(name, default)
        assert re.fullmatch(form, value, re.DOTALL), f"{name}: {value}"
        return value

    def require_all_taken(self) -> None:
        assert not self._left, f"the controller has no use for {sorted(self._left)}"
