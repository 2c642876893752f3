"""Injects exceptions at awaits of the agent. Imported by the worker under test, too.

Some modules are recompiled with every `await x` as `await reach(n, x)`; the product code is
unchanged. `reach` raises as CHAOS_RAISE specifies: `module:number:when:times` means before or after
the await of that number, when it is reached for the nth time.
"""

import ast
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

MODULES = ("processor.runtime.agent", "processor.table.state_table", "processor.changelog.producer")
"""The modules that process a batch."""
VARIABLE = "CHAOS_RAISE"
_REACH = "__chaos_reach__"


class Point(NamedTuple):
    """An await: the `number`th of a module. Function and line are for readers."""

    module: str
    number: int
    function: str
    line: int


class RaisedError(RuntimeError):
    """The injected exception."""


class _Marker(ast.NodeTransformer):
    def __init__(self) -> None:
        self.places: list[tuple[str, int]] = []
        self._function = ""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        self._function = node.name
        self.generic_visit(node)
        return node

    def visit_Await(self, node: ast.Await) -> ast.Await:
        number = len(self.places)
        self.places.append((self._function, node.lineno))
        self.generic_visit(node)
        marked = ast.Call(
            ast.Name(_REACH, ast.Load()), [ast.Constant(number), node.value], keywords=[]
        )
        return ast.copy_location(ast.Await(marked), node)


def points(root: Path) -> Iterator[Point]:
    """Yield all awaits of the modules, whose packages are in `root`."""
    for module in MODULES:
        marker = _Marker()
        file = root / f"{module.replace('.', '/')}.py"
        marker.visit(ast.parse(file.read_text(encoding="utf-8")))
        for number, (function, line) in enumerate(marker.places):
            yield Point(module, number, function, line)


def raising(point: Point, when: str, times: int) -> dict[str, str]:
    """Return the environment of a worker that raises at this await."""
    return {VARIABLE: f"{point.module}:{point.number}:{when}:{times}"}


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        tree = _Marker().visit(ast.parse(self.get_data(self.path)))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _REACH, _reach(module.__name__))
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(name, spec.origin)
        return spec


def _reach(here: str) -> Any:
    module, number, when, times = os.environ[VARIABLE].split(":")
    reached = 0

    async def reach(found: int, awaited: Awaitable[Any]) -> Any:
        nonlocal reached
        if here != module or found != int(number):
            return await awaited
        reached += 1
        is_it = reached == int(times)  # others may reach it while this one waits
        if is_it and when == "before":
            getattr(awaited, "close", lambda: None)()
            raise RaisedError(f"{when} await {number} of {module}")
        result = await awaited
        if is_it and when == "after":
            raise RaisedError(f"{when} await {number} of {module}")
        return result

    return reach


def install() -> None:
    """Recompile the modules when they are imported, if CHAOS_RAISE is set."""
    if os.environ.get(VARIABLE):
        sys.meta_path.insert(0, _Finder())
