"""The short form of `make test-hostile`: those attacks that were not bounded, for a moment each."""

import asyncio
from pathlib import Path

from tests.hostile.attacks import Attack, Seen, Victim, under
from tests.hostile.trials import HEAD, MAX_GROWTH, MAX_IN_ALL, Line, Trials, attacked

SECONDS = 1.0
NAMES = [
    "idle",
    "slow-bodies",
    "unfinished-bodies",
    "pipelined-unread",
    "zstd-bombs",
    "empty-members",
    "empty-blocks",
    "tiny-items",
]


async def test_whoever_attacks_the_healthy_are_served(tmp_path: Path) -> None:
    told: list[str] = []
    async with attacked(tmp_path) as running:
        lines = await Trials(running, SECONDS, told.append).run(NAMES)
        await running.acknowledged.check(running.clients)
    assert [line.attack for line in lines[1:-1]] == NAMES
    assert len(told) == len(NAMES)
    for line in lines:
        assert line.is_good, f"{line.attack}: +{line.grown} bytes, +{line.in_all} in all"
        assert line.seconds
        assert len(line.row()) == len(HEAD)


async def test_attackers_are_many_and_come_again() -> None:
    """Whoever is ended opens another connection, and answers are counted."""

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


def test_statuses_are_seen() -> None:
    seen = Seen()
    seen.look(b"HTTP/1.1 200 OK\r\n\r\n{}HTTP/1.1 401 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
    assert seen.statuses == {200: 2, 401: 1}


def test_growth_is_judged() -> None:
    def line(grown: int, in_all: int) -> Line:
        return Line("idle", 1, 0, {}, grown, in_all, [0.1])

    assert line(MAX_GROWTH, MAX_IN_ALL).is_good
    assert not line(MAX_GROWTH + 1, MAX_IN_ALL).is_good
    assert not line(MAX_GROWTH, MAX_IN_ALL + 1).is_good
