"""The commands of docs/backup.md and docs/secrets.md, unchanged, next to a run."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.local_run import LocalRun, wait_for

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    """Blocks of commands, in their order."""
    text = (DOCS / page).read_text("utf-8")
    return [part.partition("```")[0] for part in text.split("```sh\n")[1:]]


def shell(run: LocalRun, commands: str, patience: float = 60) -> str:
    """Run commands as an operator does, in the folder that `.state` is in."""
    ended = subprocess.run(
        ["sh", "-euc", commands],
        cwd=run.state.parent,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STATE_DIR": str(run.state),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def opens(run: LocalRun, token: str) -> bool:
    """Whether a token is accepted as ADMIN_TOKEN."""
    headers = {"authorization": f"Bearer {token}"}
    answer = httpx.get(f"{run.url}/api/v1/clients", headers=headers, trust_env=False)
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / ".state"


def test_an_operator_backs_up_and_rotates_every_secret(state: Path) -> None:
    with LocalRun(state) as run:
        run.until_ready()
        shell(run, "tobogganing clients add Anna --type native --id anna >anna")
        shell(run, "tobogganing clusters add F --id fra --region eu --datacenter fra1")
        shell(run, "tobogganing headends add A --id fra-a --cluster-id fra")
        shell(run, "tobogganing relays add R --id relay-1 --scope all")

        backup, check, *_ = blocks("backup.md")
        restore = "tobogganing restore backup.ndjson.gz --registry"
        assert "registry: 5 records" in shell(run, backup), "with the signing key"
        assert "5 there" in shell(run, check)
        assert "0 written" in shell(run, restore)

        add, take_away, rotate, signing, by_hand = blocks("secrets.md")
        old = run.secret("ADMIN_TOKEN").strip()
        shell(run, add)
        new = run.secret("ADMIN_TOKEN").split()[0]
        assert new != old
        wait_for(lambda: opens(run, new), "the new token opens")
        assert opens(run, old)
        shell(run, add.splitlines()[0] + "\n" + take_away)
        wait_for(lambda: not opens(run, old), "the old token is refused")
        assert opens(run, new)

        keys = shell(run, rotate).split()
        assert len([word for word in keys if len(word) > 40]) == 3, keys
        listed = shell(run, signing).splitlines()
        assert len(listed) == 1 + 1 + 2, "the new one, a heading, and both"
        shell(run, by_hand)
        wait_for(
            lambda: len(shell(run, "tobogganing keys list").splitlines()) == 4,
            "the key that was put there is published",
        )
        shown = shell(run, check)
        assert "newer" in shown, "what was rotated has gone on from the backup"
