"""A `kubectl` whose cluster is a folder, for the commands of deploy/kubernetes/README.md.

The real kubectl runs what needs no cluster (`kustomize`, `create … --dry-run=client`). Objects that
are applied become files, and actions on them become lines of `log`. KUBECTL names the real kubectl,
CLUSTER the folder. Standard library only, so that it starts fast: a README calls it often.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

KUBECTL = os.environ["KUBECTL"]
CLUSTER = Path(os.environ["CLUSTER"])


def main(words: list[str]) -> str:
    """Run `kubectl` with these arguments; return its output."""
    namespace: list[str] = []
    if words[:1] == ["--namespace"]:
        namespace, words = words[:2], words[2:]
        check_namespace(namespace[1])
    match words:
        case ["kustomize", _]:
            return real(*words)
        case ["create", "secret", "generic", *_, "--dry-run=client", "-o", "yaml"]:
            return real(*namespace, *words[:-1], "json")
        case ["apply", "-f", "-"]:
            return apply([sys.stdin.read()])
        case ["apply", "-f", file]:
            return apply([Path(file).read_text(encoding="utf-8")])
        case ["apply", "-k", folder, *selector]:
            return apply(chosen(real("kustomize", folder).split("\n---\n"), selector))
        case ["label", "namespace", name, label]:
            return note(f"labelled {name} {label}")
        case ["rollout", "status" | "restart" as what, workload]:
            return note(f"{what} {existing(workload)}")
        case ["delete", kind, name]:
            path = CLUSTER / existing(f"{kind}/{name}")
            path.unlink()
            return note(f"deleted {path.name}")
    sys.exit(f"nobody knows kubectl {' '.join(words)} here")


def real(*words: str) -> str:
    return subprocess.run([KUBECTL, *words], check=True, capture_output=True, text=True).stdout


def chosen(documents: list[str], selector: list[str]) -> Iterator[str]:
    """The objects that `-l 'app.kubernetes.io/component notin (…)'` selects."""
    out: set[str] = set()
    if selector:
        option, text = selector
        found = re.fullmatch(r"app\.kubernetes\.io/component notin \(([\w, ]+)\)", text)
        assert option == "-l"
        assert found
        out = set(found[1].split(", "))
    for document in documents:
        label = re.search(r"^    app\.kubernetes\.io/component: (\w+)$", document, re.MULTILINE)
        if not (label and label[1] in out):
            yield document


def apply(documents: Iterator[str] | list[str]) -> str:
    said = ""
    for text in documents:
        if text.startswith("{"):
            document = json.loads(text)
            kind, name = document["kind"], document["metadata"]["name"]
            check_namespace(document["metadata"]["namespace"])
        else:
            kind = re.search(r"^kind: (\w+)$", text, re.MULTILINE)[1]  # type: ignore[index]
            name = re.search(r"^  name: (\S+)$", text, re.MULTILINE)[1]  # type: ignore[index]
        (CLUSTER / f"{kind}-{name}").write_text(text, encoding="utf-8")
        said += note(f"applied {kind}-{name}")
    return said


def check_namespace(name: str) -> None:
    if not (CLUSTER / f"Namespace-{name}").exists():
        sys.exit(f"there is no namespace {name}")


def existing(workload: str) -> str:
    """The file of `statefulset/processor`."""
    kind, _, name = workload.partition("/")
    for file in CLUSTER.iterdir():
        if file.name.lower() == f"{kind}-{name}":
            return file.name
    sys.exit(f"there is no {workload}")


def note(line: str) -> str:
    with (CLUSTER / "log").open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    return line + "\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
