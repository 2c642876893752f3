"""The objects that deploy/kubernetes generates, and the environment of each container."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.deploy.compose import ROOT
from tests.deploy.kubectl import Object, built

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("small", "production")
COMPONENT = "app.kubernetes.io/component"
POD_INDEX = "apps.kubernetes.io/pod-index"


class Manifests:
    """Objects by kind and name."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.objects = objects

    @classmethod
    def of(cls, overlay: str) -> "Manifests":
        return cls(built(KUBERNETES / "overlays" / overlay))

    def every(self, *kinds: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        (found,) = (one for one in self.every(kind) if one["metadata"]["name"] == name)
        return found

    def workload(self, name: str) -> Object:
        """The Deployment or StatefulSet of a service."""
        (found,) = (one for one in self.workloads() if one["metadata"]["name"] == name)
        return found

    def workloads(self) -> list[Object]:
        return self.every("Deployment", "StatefulSet")

    def selected(self, labels: Mapping[str, str]) -> list[str]:
        """The names of the workloads whose pods have these labels."""
        return [
            one["metadata"]["name"]
            for one in self.workloads()
            if labels.items() <= template(one)["metadata"]["labels"].items()
        ]

    def environ(
        self, workload: Object, ordinal: int, secrets: Mapping[str, Object]
    ) -> dict[str, str]:
        """The environment that the kubelet sets for the container of a pod."""
        pod = pod_name(workload, ordinal)
        found: dict[str, str] = {}
        for source in container(workload).get("envFrom", []):
            found |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container(workload)["env"]:
            match variable:
                case {"value": value}:
                    value = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
                case {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}:
                    value = pod
                case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
                    assert path == f"metadata.labels['{POD_INDEX}']"
                    assert workload["kind"] == "StatefulSet"
                    value = str(ordinal)
                case {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}:
                    value = content(secrets[name])[key].decode()
                case _:
                    raise AssertionError(f"nobody knows {variable} here")
            found[variable["name"]] = value
        return found


def template(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]
    return found


def container(workload: Object) -> Object:
    """The one container of a workload's pods."""
    (found,) = template(workload)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def ordinals(workload: Object) -> range:
    """The ordinals of its pods."""
    start = workload["spec"].get("ordinals", {}).get("start", 0)
    return range(start, start + workload["spec"].get("replicas", 1))


def pod_name(workload: Object, ordinal: int) -> str:
    return f"{workload['metadata']['name']}-{ordinal}"


def mounts(workload: Object) -> Iterator[tuple[str, Object]]:
    """Where each volume is mounted, and its source: always a Secret."""
    volumes = {one["name"]: one["secret"] for one in template(workload)["spec"]["volumes"]}
    for mount in container(workload)["volumeMounts"]:
        assert mount["readOnly"]
        yield mount["mountPath"], volumes.pop(mount["name"])
    assert not volumes


def content(secret: Object) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


def port(workload: Object, name: str) -> int:
    """The number of a port of the container."""
    (found,) = (one for one in container(workload)["ports"] if one["name"] == name)
    number: Any = found["containerPort"]
    assert isinstance(number, int)
    return number
