"""The rule for private parts of libraries: only `compat` modules use them."""

import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contract", "service", "gateway", "processor", "exporter", "tobogganing")
STANDARD = {"_exit", "_current_frames"}
"""Documented functions of `os` and `sys` with private-looking names."""
INTERNAL = "uvicorn."
"""A library whose modules are private: it documents only its package."""
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make"}


def modules() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if "_compat" not in name and file.stem != "__main__":
                yield file, name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Private names that code reads from other objects than `self`, with their lines."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if is_private(name):
                yield name, node.lineno
            case ast.ImportFrom(module=str(module)) if module.startswith(INTERNAL):
                yield module, node.lineno
            case ast.ImportFrom(names=aliases):
                yield from (
                    (alias.name, node.lineno) for alias in aliases if is_private(alias.name)
                )
            case ast.Call(func=ast.Name("getattr" | "setattr"), args=[_, ast.Constant(name), *_]):
                if isinstance(name, str) and is_private(name):
                    yield name, node.lineno


def defined_names(tree: ast.AST) -> set[str]:
    """Names that code defines: functions, variables, and attributes of `self`."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Attribute(ast.Name("self" | "cls"), name, ast.Store()):
                names.add(name)
    return names


@functools.cache
def defined_in(file: Path) -> set[str]:
    return defined_names(ast.parse(file.read_text(encoding="utf-8")))


def own_imports(tree: ast.AST) -> Iterator[Path]:
    """The own modules from which a module imports: its classes may extend theirs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            file = (ROOT / node.module.replace(".", "/")).with_suffix(".py")
            if node.module.partition(".")[0] in PACKAGES and file.exists():
                yield file


def foreign_names(source: str) -> list[str]:
    """Uses of private names that neither the module nor its own imports define."""
    tree = ast.parse(source)
    own = defined_names(tree).union(*map(defined_in, own_imports(tree)))
    allowed = own | STANDARD | NAMED_TUPLE
    return [f"line {line}: {name}" for name, line in private_names(tree) if name not in allowed]


def overridden(kind: type, tree: ast.Module) -> list[str]:
    """Private names that a class defines although a library's class that it extends has them."""
    own = {*PACKAGES, *sys.stdlib_module_names}
    foreign = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in own]
    defined = {
        name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
        for name in defined_names(node)
        if is_private(name)
    }
    return [
        f"{kind.__name__}.{name}"
        for name in sorted(defined)
        if any(name in vars(base) for base in foreign)
    ]


def test_only_compat_modules_use_private_names_of_libraries() -> None:
    offences = [
        f"{file.relative_to(ROOT)}: {use}"
        for file, _ in modules()
        for use in foreign_names(file.read_text(encoding="utf-8"))
    ]
    assert offences == []


def test_only_compat_modules_override_private_methods_of_libraries() -> None:
    offences = []
    for file, name in modules():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for _, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if kind.__module__ == name:
                offences += [f"{file.relative_to(ROOT)}: {each}" for each in overridden(kind, tree)]
    assert offences == []


@pytest.mark.parametrize(
    "use",
    [
        "server._captured.clear()",
        "getattr(app, '_consumer')",
        "from faust import _impl",
        "from uvicorn.server import A",
    ],
)
def test_the_rule_sees_every_form_of_use(use: str) -> None:
    assert foreign_names(use)
    assert foreign_names(f"class A:\n    def f(self, app, server):\n        {use}\n")


def test_the_rule_sees_methods_and_attributes_that_replace_others() -> None:
    class Base:
        _store = ""

        def _crash(self) -> None: ...

    class Derived(Base):
        pass

    Base.__module__ = "library"
    source = "class Derived:\n  def __init__(self):\n    self._store = ''\n  def _crash(self): ..."
    assert overridden(Derived, ast.parse(source)) == ["Derived._crash", "Derived._store"]
