"""Documented commands write secrets to files that only their owner can read, and git ignores."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
SECRET = re.compile(
    r"(?:(?:add|rotate|create) .*--json|rand -hex|genpkey|entrypoint tar).*(?:>|-out )"
    r"|tar --create .*secrets"
)
"""Commands that print or copy a secret, with a file to which they write it."""
WRITTEN = (
    *("headend.json", "keys.csv", "keys.csv.pending", "secrets.tar.gz", "fleet.ndjson"),
    *("backup.ndjson.gz", "registry.ndjson.gz", "all.ndjson.gz", "old.env", "new.env", ".env"),
    *(".state/secrets/ADMIN_TOKEN", "lost.state/secrets/ADMIN_TOKEN"),
)
"""Files with secrets, or with the names of all clients, that documented commands write here."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_write_secrets_set_a_umask(page: Path) -> None:
    text = page.read_text("utf-8")
    fenced = re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}\S.*\n)+", text, re.MULTILINE)
    for block in [*fenced, *indented]:
        for line in block.splitlines():
            if SECRET.search(line):
                assert "umask 077" in block, f"{page.name}: {line}"


def test_the_check_finds_what_it_is_for() -> None:
    for line in (
        "tobogganing headends add A --json >headend.json",
        "tar --create --gzip --file secrets.tar.gz --directory .state secrets",
        "openssl rand -hex 32 >$FILE.new",
    ):
        assert SECRET.search(line)


@pytest.mark.parametrize("name", WRITTEN)
def test_git_ignores_them(name: str) -> None:
    ended = subprocess.run(
        ["git", "check-ignore", "--no-index", "--quiet", name], cwd=ROOT, check=False
    )
    assert ended.returncode == 0
