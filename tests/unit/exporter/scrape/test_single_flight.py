"""Scrapes run one at a time, are shared, and are never older than their requests."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from exporter.scrape.exposition import CompressedExposition
from exporter.scrape.single_flight import ScrapeSingleFlight, Snapshot


def text(exposition: CompressedExposition) -> bytes:
    return b"".join(exposition.decompressed())


class SnapshotSource:
    """Counts snapshots; each contains its number. Rendering waits until the event is set."""

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
async def source() -> SnapshotSource:
    return SnapshotSource()


async def test_a_snapshot_is_taken_when_it_is_requested(source: SnapshotSource) -> None:
    source.go_on.set()
    scrapes = source.scrapes()
    assert text(await scrapes.exposition(openmetrics=False)) == b"number 1\n"
    assert text(await scrapes.exposition(openmetrics=False)) == b"number 2\n"
    assert text(await scrapes.exposition(openmetrics=True)) == b"number 3\n# EOF\n"
    assert len(source.made) == 3


async def test_waiting_requests_share_the_next_exposition(source: SnapshotSource) -> None:
    scrapes = source.scrapes()
    first = asyncio.create_task(scrapes.exposition(openmetrics=True))
    await source.begun.wait()
    others = [asyncio.create_task(scrapes.exposition(openmetrics=True)) for _ in range(3)]
    plain = asyncio.create_task(scrapes.exposition(openmetrics=False))
    await asyncio.sleep(0)
    assert source.count == 1, "a later request must not get the older exposition"
    source.go_on.set()
    assert text(await first).startswith(b"number 1\n")
    assert len(set(await asyncio.gather(*others))) == 1
    await plain
    assert source.count == 3


async def test_a_disconnect_does_not_affect_the_other_requests(source: SnapshotSource) -> None:
    scrapes = source.scrapes()
    gone, stays = (asyncio.create_task(scrapes.exposition(openmetrics=True)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    source.go_on.set()
    assert text(await stays) == b"number 1\n# EOF\n"
    assert gone.cancelled()


async def test_a_failed_exposition_fails_only_its_own_requests() -> None:
    outcomes = [ValueError("no"), None]

    def take_snapshot(openmetrics: bool) -> Snapshot:
        if error := outcomes.pop(0):
            raise error
        return Snapshot([], b"fine\n")

    scrapes = ScrapeSingleFlight(take_snapshot, lambda seconds, body: None)
    with pytest.raises(ValueError, match="no"):
        await scrapes.exposition(openmetrics=False)
    assert text(await scrapes.exposition(openmetrics=False)) == b"fine\n"
