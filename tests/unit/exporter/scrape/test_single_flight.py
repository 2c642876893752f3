"""Scrapes: one at a time, shared, and never older than the question."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from exporter.scrape.exposition import CompressedExposition
from exporter.scrape.single_flight import ScrapeSingleFlight, Snapshot


def text(exposition: CompressedExposition) -> bytes:
    return b"".join(exposition.decompressed())


class Looks:
    """Counts looks; each shows its number. Making a body waits until the event is set."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = asyncio.Event()
        self.go_on = threading.Event()
        self.made: list[CompressedExposition] = []

    def __call__(self, openmetrics: bool) -> Snapshot:
        self.count += 1
        self.begun.set()
        rest = b"# EOF\n" if openmetrics else b""
        return Snapshot([self._steps(f"number {self.count}\n".encode())], rest)

    def _steps(self, shown: bytes) -> Iterator[list[bytes]]:
        assert threading.current_thread() is not threading.main_thread()
        assert self.go_on.wait(10)
        yield [shown]

    def scrapes(self) -> ScrapeSingleFlight:
        return ScrapeSingleFlight(self, lambda seconds, body: self.made.append(body))


@pytest.fixture
async def looks() -> Looks:
    return Looks()


async def test_a_scrape_is_looked_at_when_it_is_asked_for(looks: Looks) -> None:
    looks.go_on.set()
    scrapes = looks.scrapes()
    assert text(await scrapes.exposition(openmetrics=False)) == b"number 1\n"
    assert text(await scrapes.exposition(openmetrics=False)) == b"number 2\n"
    assert text(await scrapes.exposition(openmetrics=True)) == b"number 3\n# EOF\n"
    assert len(looks.made) == 3


async def test_those_who_wait_share_the_next(looks: Looks) -> None:
    scrapes = looks.scrapes()
    first = asyncio.create_task(scrapes.exposition(openmetrics=True))
    await looks.begun.wait()
    others = [asyncio.create_task(scrapes.exposition(openmetrics=True)) for _ in range(3)]
    plain = asyncio.create_task(scrapes.exposition(openmetrics=False))
    await asyncio.sleep(0)
    assert looks.count == 1, "a scrape that came later must not get the older body"
    looks.go_on.set()
    assert text(await first).startswith(b"number 1\n")
    assert len(set(await asyncio.gather(*others))) == 1
    await plain
    assert looks.count == 3


async def test_one_that_hangs_up_takes_nothing_from_the_others(looks: Looks) -> None:
    scrapes = looks.scrapes()
    gone, stays = (asyncio.create_task(scrapes.exposition(openmetrics=True)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    looks.go_on.set()
    assert text(await stays) == b"number 1\n# EOF\n"
    assert gone.cancelled()


async def test_a_failed_body_fails_its_scrapes_and_no_later_one() -> None:
    outcomes = [ValueError("no"), None]

    def look(openmetrics: bool) -> Snapshot:
        if error := outcomes.pop(0):
            raise error
        return Snapshot([], b"fine\n")

    scrapes = ScrapeSingleFlight(look, lambda seconds, body: None)
    with pytest.raises(ValueError, match="no"):
        await scrapes.exposition(openmetrics=False)
    assert text(await scrapes.exposition(openmetrics=False)) == b"fine\n"
