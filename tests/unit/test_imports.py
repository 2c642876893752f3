"""The import rule: services import what they share, and nothing of each other."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contract", "service", "gateway", "processor", "exporter", "tobogganing")
ALLOWED = {
    "contract": {"contract"},
    "service": {"service", "contract"},
    "gateway": {"gateway", "service", "contract"},
    "processor": {"processor", "service", "contract"},
    "exporter": {"exporter", "service", "contract"},
    "tobogganing": set(PACKAGES),
}
NOT_IN_THE_WHEEL = ("bench", "tools", "tests")
IO_MODULES = {
    "asyncio",
    "socket",
    "aiokafka",
    "aiohttp",
    "starlette",
    "uvicorn",
    "faust",
    "structlog",
}
"""Modules that pure code does not need."""


def imported(source: str) -> Iterator[str]:
    """Top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    forbidden = {*PACKAGES, *NOT_IN_THE_WHEEL} - ALLOWED[package]
    offences = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imported(file.read_text(encoding="utf-8"))
        if name in forbidden
    ]
    assert offences == []


def test_the_contract_is_pure() -> None:
    offences = [
        f"{file.name} imports {name}"
        for file in (ROOT / "contract").rglob("*.py")
        for name in imported(file.read_text(encoding="utf-8"))
        if name in IO_MODULES
    ]
    assert offences == []


def test_the_rule_sees_every_form_of_import() -> None:
    source = "import a.b\nfrom c.d import e\ndef f():\n    import g as h\n"
    assert set(imported(source)) == {"a", "c", "g"}


LAYERS = {
    "service": (
        *("accept", "plural", "clock", "config", "logs", "slices", "stacks", "tasks"),
        *("process_name", "startup", "gc_tuning", "memory_budget", "rate_limiter"),
        *("compression", "metrics", "kafka", "evidence", "http"),
    ),
    "gateway": (
        *("settings", "metrics", "operations", "body", "produce", "registry", "auth", "ingest"),
        *("api", "app", "__main__"),
    ),
    "processor": (
        *("settings", "core", "membership", "metrics", "changelog"),
        *("faust_compat", "table", "source", "runtime"),
        *("app", "worker", "__main__"),
    ),
    "exporter": (
        *("shard", "thresholds", "settings", "state", "receipts", "scrape", "metrics"),
        *("scrape_endpoint", "fleet", "ledger", "checkins"),
        *("status_page", "row_consumer", "app", "__main__"),
    ),
    "tobogganing": (
        *("errors", "backoff", "output", "time_param", "disk_space"),
        *("sizing", "manager"),
        *("devstack", "api_client", "dead_letters", "backup", "ledger_audit"),
        *("never_reported", "fleet_import", "simulator", "alter_topics", "topics", "topic_log"),
        *("cli", "__main__"),
    ),
}
"""Sub-packages and modules of each package, from the bottom up: a layer imports only layers
below."""


def imported_modules(source: str) -> Iterator[str]:
    """Dotted names that a module imports, those of types included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", LAYERS)
def test_every_module_belongs_to_a_layer(package: str) -> None:
    found = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    found |= {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert found == set(LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_layers_import_only_downwards(package: str) -> None:
    layers = LAYERS[package]
    offences = []
    for file in sorted((ROOT / package).rglob("*.py")):
        layer = file.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if layer == "__init__":
            continue
        for name in imported_modules(file.read_text(encoding="utf-8")):
            root, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if root == package and target in layers and layers.index(target) > layers.index(layer):
                offences.append(f"{file.relative_to(ROOT)} imports {name}")
    assert offences == []


@pytest.mark.parametrize("package", LAYERS)
def test_modules_of_a_layer_have_no_import_cycle(package: str) -> None:
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file
        for file in (ROOT / package).rglob("*.py")
        if file.stem != "__init__"
    }
    graph = {
        module: {
            found
            for name in imported_modules(file.read_text(encoding="utf-8"))
            for found in (name, name.rpartition(".")[0])
            if found in files
        }
        for module, file in files.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_the_layer_rule_sees_every_form_of_import() -> None:
    source = "import a.b\nfrom c.d import e\ndef f():\n    import g as h\n"
    assert set(imported_modules(source)) == {"a.b", "c.d.e", "g"}
