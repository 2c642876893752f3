"""Sends expositions; cuts off slow readers to limit the number of expositions in memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from exporter.scrape.exposition import BLOCK, CompressedExposition, render_executor
from service.metrics.exposition import NegotiatedFormat, exposition_headers

log = structlog.get_logger(__name__)


class SlowReaderLimiter:
    """Limits the time and the number of expositions that are being sent."""

    max_expositions = 4
    """Maximum number of snapshots being sent at a time. Another one cuts off the readers of the
    oldest, which is outdated by then."""

    def __init__(self, timeout: float, on_cut_off: Callable[[], None]) -> None:
        self._timeout = timeout
        self._on_cut_off = on_cut_off
        self._sending: dict[CompressedExposition, set[asyncio.Timeout]] = {}

    def response(
        self, exposition: CompressedExposition, negotiated: NegotiatedFormat
    ) -> "ExpositionResponse":
        """Return the response to a scrape."""
        return ExpositionResponse(exposition, negotiated, self)

    @contextlib.asynccontextmanager
    async def limit(self, exposition: CompressedExposition) -> AsyncIterator[None]:
        """Cancel the body of the context when the time to send this exposition is over."""
        limits = self._sending.setdefault(exposition, set())
        if len(self._sending) > self.max_expositions:
            self._cut_off_oldest()
        try:
            async with asyncio.timeout(self._timeout) as limit:
                limits.add(limit)
                try:
                    yield
                finally:
                    limits.discard(limit)
        except TimeoutError:
            self._on_cut_off()
            log.warning("scrape cut off: the client reads too slowly", size=exposition.size)
        finally:
            if not limits:
                self._sending.pop(exposition, None)

    def _cut_off_oldest(self) -> None:
        oldest = next(iter(self._sending))
        for limit in self._sending.pop(oldest):
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


class ExpositionResponse(StreamingResponse):
    """Sends an exposition in the negotiated encoding."""

    def __init__(
        self,
        exposition: CompressedExposition,
        negotiated: NegotiatedFormat,
        slow_readers: SlowReaderLimiter,
    ) -> None:
        size = exposition.compressed_size if negotiated.gzip else exposition.size
        headers = exposition_headers(negotiated) | {"content-length": str(size)}
        self._chunks = _compressed(exposition) if negotiated.gzip else _decompressed(exposition)
        super().__init__(self._chunks, headers=headers)
        self._exposition = exposition
        self._slow_readers = slow_readers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._slow_readers.limit(self._exposition):
                await super().__call__(scope, receive, send)
        finally:
            # A disconnect raises here; the traceback may keep the exposition alive for long.
            await self._chunks.aclose()
            del self._exposition


async def _compressed(exposition: CompressedExposition) -> AsyncGenerator[bytes]:
    chunks = iter(exposition.compressed)
    del exposition
    try:
        for chunk in chunks:
            yield chunk
    finally:
        del chunks


async def _decompressed(exposition: CompressedExposition) -> AsyncGenerator[bytes]:
    chunks, is_large = exposition.decompressed(), exposition.size > BLOCK
    del exposition
    loop = asyncio.get_running_loop()
    try:
        while True:
            chunk = (
                await loop.run_in_executor(render_executor, _next, chunks)
                if is_large
                else _next(chunks)
            )
            if chunk is None:
                return
            yield chunk
    finally:
        del chunks


def _next(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)
