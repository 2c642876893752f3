"""Responses have the negotiated encoding, and slow readers are cut off."""

import asyncio
import gc
import gzip
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message

from exporter.scrape.exposition import (
    BLOCK,
    CompressedExposition,
    render_executor,
    render_exposition,
)
from exporter.scrape.response import SlowReaderLimiter
from service.metrics.exposition import NegotiatedFormat

SOON = 1.0
NEVER = 600.0
TEXT = b"a line of text\n" * (3 * BLOCK // 15)
PLAIN = NegotiatedFormat(openmetrics=False, gzip=False)
GZIPPED = NegotiatedFormat(openmetrics=True, gzip=True)


def body(text: bytes = TEXT) -> CompressedExposition:
    return render_exposition([], text)


class Scraper:
    """An ASGI client that reads until it stops reading or disconnects."""

    def __init__(self, *, reads: int = 10**9) -> None:
        self.messages: list[Message] = []
        self.stuck = asyncio.Event()
        self.hung_up = asyncio.Event()
        self._reads = reads

    async def receive(self) -> Message:
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if len(self.messages) == self._reads:
            self.stuck.set()
            await asyncio.Event().wait()
        self.messages.append(message)

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def is_answered(self) -> bool:
        return self.messages[-1]["type"] == "http.response.body" and not self.messages[-1].get(
            "more_body"
        )

    def get(
        self,
        slow_readers: SlowReaderLimiter,
        exposition: CompressedExposition,
        negotiated: NegotiatedFormat,
    ) -> "asyncio.Task[None]":
        scope: dict[str, Any] = {"type": "http", "asgi": {"spec_version": "2.3"}}
        return asyncio.ensure_future(
            slow_readers.response(exposition, negotiated)(scope, self.receive, self.send)
        )


class CutOffs:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def cut_offs() -> CutOffs:
    return CutOffs()


@pytest.fixture
def limiter(cut_offs: Callable[[], None]) -> SlowReaderLimiter:
    return SlowReaderLimiter(NEVER, cut_offs)


@pytest.mark.parametrize("text", [b"", b"small\n", TEXT])
async def test_one_exposition_serves_every_encoding(
    limiter: SlowReaderLimiter, text: bytes
) -> None:
    made = body(text)
    plain, zipped = Scraper(), Scraper()
    await asyncio.gather(plain.get(limiter, made, PLAIN), zipped.get(limiter, made, GZIPPED))
    assert plain.text == text
    assert gzip.decompress(zipped.text) == text
    for scraper in (plain, zipped):
        assert scraper.is_answered
        headers = dict(scraper.messages[0]["headers"])
        assert headers[b"content-length"] == str(len(scraper.text)).encode()
    assert max(len(message.get("body", b"")) for message in plain.messages) < 3 * BLOCK


@pytest.mark.parametrize("wanted", [PLAIN, GZIPPED])
async def test_a_client_that_does_not_read_is_cut_off(
    cut_offs: CutOffs, wanted: NegotiatedFormat
) -> None:
    slow = Scraper(reads=2)
    await slow.get(SlowReaderLimiter(SOON, cut_offs), body(), wanted)
    assert slow.stuck.is_set()
    assert not slow.is_answered
    assert cut_offs.count == 1


async def test_a_disconnect_ends_the_response_and_is_not_counted_as_a_slow_reader(
    limiter: SlowReaderLimiter, cut_offs: CutOffs
) -> None:
    scraper = Scraper(reads=2)
    sending = scraper.get(limiter, body(), PLAIN)
    await scraper.stuck.wait()
    scraper.hung_up.set()
    await sending
    assert cut_offs.count == 0


@pytest.mark.parametrize("wanted", [PLAIN, GZIPPED])
@pytest.mark.parametrize("reads", [2, 10**9], ids=["hangs up", "reads all"])
async def test_a_sent_exposition_is_released(
    limiter: SlowReaderLimiter, wanted: NegotiatedFormat, reads: int
) -> None:
    gc.collect()
    gc.disable()
    try:
        made = body()
        kept = weakref.ref(made)
        scraper = Scraper(reads=reads)
        sending = scraper.get(limiter, made, wanted)
        del made
        if reads == 2:
            await scraper.stuck.wait()
            scraper.hung_up.set()
        await sending
        # The executor thread releases its last result with a delay.
        await asyncio.get_running_loop().run_in_executor(render_executor, int)
        assert kept() is None
    finally:
        gc.enable()


async def test_the_number_of_expositions_in_memory_is_limited(
    limiter: SlowReaderLimiter, cut_offs: CutOffs
) -> None:
    first = body()
    oldest = [Scraper(reads=2) for _ in range(2)]
    ending = [
        scraper.get(limiter, first, negotiated)
        for scraper, negotiated in zip(oldest, (PLAIN, GZIPPED), strict=True)
    ]
    others = []
    for _ in range(limiter.max_expositions - 1):
        scraper = Scraper(reads=2)
        others.append(scraper.get(limiter, body(), GZIPPED))
        await scraper.stuck.wait()
    assert not any(task.done() for task in ending)
    last = Scraper()
    await last.get(limiter, body(), GZIPPED)
    assert last.is_answered
    await asyncio.gather(*ending)
    assert cut_offs.count == 2
    assert not any(task.done() for task in others)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    again = Scraper()
    await again.get(limiter, body(), PLAIN)
    assert again.is_answered
    assert cut_offs.count == 2
