"""Commands that messages, pages, alerts and the documentation name exist, with their options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from contract.kinds import CLIENT
from tobogganing.cli.main import cli

ROOT = Path(__file__).resolve().parents[4]
PACKAGES = ("contract", "service", "gateway", "processor", "exporter", "tobogganing")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TEXTS = [
    *sorted((ROOT / "exporter").rglob("*.html")),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs" / "decisions").glob("*.md"),
    *(ROOT / name for name in ("README.md", "examples/README.md")),
    *(
        path
        for path in sorted((ROOT / "deploy").rglob("*"))
        if path.suffix in {".yml", ".yaml", ".md", ".json", ".sh", ".tmpl"}
    ),
]
NEW_KINDS = {"probes"}
"""Collections that an example of docs/extending.md adds."""
COMMAND = re.compile(
    r"(?<!-n )(?<!--namespace )(?<![\w./:-])tobogganing +([a-z][\w-]*(?: +[\w./:@{}=-]+)*)"
)
PLACEHOLDER = re.compile(r"\{\{ *query\.collection *\}\}|\{[^{}]*\}s")
"""Placeholders for the name of a collection."""
QUOTED = re.compile(r"`[^`]+`|^\s*tobogganing .*", re.MULTILINE)
"""Code in Markdown: other mentions of the name are no commands."""


def written(text: str) -> Iterator[list[str]]:
    """The words after each `tobogganing`; in prose, also some that are no arguments."""
    text = PLACEHOLDER.sub(CLIENT.collection, text.replace("\\\n", " "))
    for found in COMMAND.finditer(text):
        yield found[1].split()


def strings(source: str) -> Iterator[str]:
    """The string literals of a Python file, joined, with `{}` for each expression."""
    inner = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inner |= set(map(id, node.values))
            parts = (
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
            yield "".join(parts)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            yield node.value


def fault(words: list[str]) -> str | None:
    """What is wrong with a command; None if it exists."""
    command: click.Command = cli
    options = set(option_names(cli))
    for word in words:
        if word.startswith("-") and word != "-":
            if (name := word.split("=")[0]) not in options:
                return f"no option {name}"
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return f"no command {word}"
            command = command.commands[word]
            options |= set(option_names(command))
    return None


def option_names(command: click.Command) -> Iterator[str]:
    for option in command.get_params(click.Context(command)):
        yield from (*option.opts, *option.secondary_opts)


def code_of(path: Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix != ".md":
        return text
    return "\n".join(found[0] for found in QUOTED.finditer(text))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_messages_exist(path: Path) -> None:
    for text in strings(path.read_text("utf-8")):
        for words in written(text):
            assert not (what := fault(words)), f"tobogganing {' '.join(words)}: {what}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_pages_alerts_and_docs_exist(path: Path) -> None:
    for words in written(code_of(path)):
        if words[0] not in NEW_KINDS:
            assert not (what := fault(words)), f"tobogganing {' '.join(words)}: {what}"


def test_the_check_finds_what_it_is_for() -> None:
    (words,) = written("Register it: tobogganing {kind}s register --help")
    assert fault(words) == "no command register"
    (words,) = written("<code>tobogganing {{ query.collection }} add --hlep</code>")
    assert fault(words) == "no option --hlep"
    (words,) = written("tobogganing clients add NAME --type native")
    assert fault(words) is None
    (words,) = written("tobogganing clients add NAME --kind native")
    assert fault(words) == "no option --kind"
