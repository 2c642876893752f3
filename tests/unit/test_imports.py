"""The import rule: services import what they share, and nothing of each other."""

import ast
from collections.abc import Iterator
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
"""Modules that pure code has no use for."""


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
    forbidden = set(PACKAGES) - ALLOWED[package]
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
