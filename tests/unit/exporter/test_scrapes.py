"""Scrapes: one at a time, shared, and never older than the question."""

import asyncio
import gzip
import threading

import pytest

from exporter.scrapes import Scrapes
from service import exposition
from service.exposition import Wanted

PLAIN = Wanted(openmetrics=False, gzip=False)
ZIPPED = Wanted(openmetrics=True, gzip=True)


class Renderings:
    """Counts renderings; each shows its number."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = asyncio.Event()

    def __call__(self, wanted: Wanted) -> bytes:
        self.count += 1
        self.begun.set()
        return f"number {self.count}\n".encode()


@pytest.fixture
def held_compressor(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Compressing waits, in its thread, until the event is set."""
    go_on = threading.Event()
    real_pack = exposition.pack

    def pack(wanted: Wanted, body: bytes) -> bytes:
        if wanted.gzip:
            assert threading.current_thread() is not threading.main_thread()
            assert go_on.wait(10)
        return real_pack(wanted, body)

    monkeypatch.setattr(exposition, "_LARGE", 0)
    monkeypatch.setattr(exposition, "pack", pack)
    return go_on


async def test_a_scrape_is_rendered_when_it_is_asked_for() -> None:
    scrapes = Scrapes(Renderings())
    assert await scrapes.body(PLAIN) == b"number 1\n"
    assert await scrapes.body(PLAIN) == b"number 2\n"
    assert gzip.decompress(await scrapes.body(ZIPPED)) == b"number 3\n# EOF\n"


async def test_those_who_wait_share_the_next(held_compressor: threading.Event) -> None:
    renderings = Renderings()
    scrapes = Scrapes(renderings)
    first = asyncio.create_task(scrapes.body(ZIPPED))
    await renderings.begun.wait()
    others = [asyncio.create_task(scrapes.body(ZIPPED)) for _ in range(3)]
    plain = asyncio.create_task(scrapes.body(PLAIN))
    await asyncio.sleep(0)
    assert renderings.count == 1, "a scrape that came later must not get the older body"
    held_compressor.set()
    assert gzip.decompress(await first).startswith(b"number 1\n")
    assert len(set(await asyncio.gather(*others))) == 1
    await plain
    assert renderings.count == 3


async def test_one_that_hangs_up_takes_nothing_from_the_others(
    held_compressor: threading.Event,
) -> None:
    scrapes = Scrapes(Renderings())
    gone, stays = (asyncio.create_task(scrapes.body(ZIPPED)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    held_compressor.set()
    assert gzip.decompress(await stays) == b"number 1\n# EOF\n"
    assert gone.cancelled()


async def test_a_failed_rendering_fails_its_scrapes_and_no_later_one() -> None:
    outcomes = [ValueError("no"), None]

    def render(wanted: Wanted) -> bytes:
        if error := outcomes.pop(0):
            raise error
        return b"fine\n"

    scrapes = Scrapes(render)
    with pytest.raises(ValueError, match="no"):
        await scrapes.body(PLAIN)
    assert await scrapes.body(PLAIN) == b"fine\n"
