"""The short form of `make test-hostile`: a moment each of the attacks that once
exceeded a limit."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.attacks import Attack, AttackResult, Victim, under
from tests.hostile.busy import BUSY
from tests.hostile.callbacks import VARIABLE, CallbackFile, Slowest
from tests.hostile.runner import (
    HEAD,
    MAX_CALLBACK,
    MAX_GROWTH,
    MAX_IN_ALL,
    STARTUP,
    AttackLine,
    AttackRunner,
    attacked,
)
from tests.long import IS_LONG
from tobogganing.devstack.run_config import CHECKOUT

SECONDS = 1.0
NAMES = [
    "idle",
    "unfinished-bodies",
    "pipelined-unread",
    "zstd-bombs",
    "empty-members",
    "tiny-items",
]
MORE_NAMES = [
    "slow-bodies",
    "direct-unread",
    "kept-headers",
    "empty-lines",
    "tiny-chunks",
    "empty-blocks",
    "many-names",
    "huge-integers",
    "refused-items",
    "large-backlogs",
    "long-types",
    "items-of-unclosed-quotes",
    "unclosed-quotes",
    "backlogs-of-quotes",
]


async def test_healthy_agents_are_served_during_attacks(tmp_path: Path) -> None:
    told: list[str] = []
    names = NAMES + MORE_NAMES * IS_LONG
    async with attacked(tmp_path) as (running, callbacks):
        lines = await AttackRunner(running, callbacks, SECONDS, told.append).run(names)
        await running.acknowledged.check(running.clients)
    assert [line.attack for line in lines[1:-1]] == names
    assert len(told) == len(names)
    for line in lines:
        assert not line.faults, f"{line.attack}: {line.faults}"
        assert line.slowest.seconds > 0
        assert line.seconds
        assert len(line.row()) == len(HEAD)


async def test_attackers_reopen_closed_connections() -> None:
    """A closed connection is reopened, and responses are counted."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 431 No\r\n\r\n")
        writer.close()

    async def send(writer: asyncio.StreamWriter, _: Victim) -> None:
        writer.write(b"x")

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(10), under(Attack(5, send), Victim(port, "/", "", "")) as seen:
        while seen.statuses[431] < 12:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert seen.opened > 10
    server.close()


def test_response_statuses_are_counted() -> None:
    seen = AttackResult()
    seen.count(b"HTTP/1.1 200 OK\r\n\r\n{}HTTP/1.1 401 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
    assert seen.statuses == {200: 2, 401: 1}


def test_exceeded_limits_are_reported() -> None:
    def faults(grown: int, in_all: int, seconds: float) -> list[str]:
        return AttackLine("idle", 1, 0, {}, grown, in_all, Slowest(seconds, "decode"), [0.1]).faults

    assert faults(MAX_GROWTH, MAX_IN_ALL, MAX_CALLBACK) == []
    assert len(faults(MAX_GROWTH + 1, MAX_IN_ALL, MAX_CALLBACK)) == 1
    assert len(faults(MAX_GROWTH, MAX_IN_ALL + 1, MAX_CALLBACK)) == 1
    assert faults(0, 0, 0.0512) == ["a callback used 51 ms of CPU (decode)"]


@pytest.mark.parametrize("where", ["task", "call_soon", "call_later", "thread", "protocol"])
def test_the_slowest_callback_is_found_wherever_it_runs(tmp_path: Path, where: str) -> None:
    """As the gateway under attack: a separate process on uvloop."""
    file = CallbackFile(tmp_path / "callbacks")
    environ = os.environ | {
        VARIABLE: str(tmp_path / "callbacks"),
        "PYTHONPATH": f"{STARTUP}{os.pathsep}{CHECKOUT}",
    }
    program = [sys.executable, "-m", "tests.hostile.busy", where]
    subprocess.run(program, check=True, env=environ, cwd=CHECKOUT, timeout=60)
    seen = file.read()
    assert BUSY <= seen.seconds < 3 * BUSY
    assert "busy" in seen.name.lower()
    file.reset()
    assert file.read() == Slowest(0, "")
