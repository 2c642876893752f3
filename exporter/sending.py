"""Sending bodies: whoever reads too slowly is cut off, so that few bodies are held at a time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from exporter.body import BLOCK, Body, worker
from service.exposition import Wanted, exposition_headers

log = structlog.get_logger(__name__)


class Sender:
    """Sends bodies, each within a time limit."""

    max_bodies = 4
    """Bodies of different moments on their way; for one more, the oldest one's readers are cut off:
    they would get old values, and late."""

    def __init__(self, within: float, on_cut_off: Callable[[], None]) -> None:
        self._within = within
        self._on_cut_off = on_cut_off
        self._sending: dict[Body, set[asyncio.Timeout]] = {}

    def response(self, body: Body, wanted: Wanted) -> "BodyResponse":
        """Make the answer to a scrape."""
        return BodyResponse(body, wanted, self)

    @contextlib.asynccontextmanager
    async def limit(self, body: Body) -> AsyncIterator[None]:
        """Let the context last as long as this body may be sent; then end it by cancelling."""
        limits = self._sending.setdefault(body, set())
        if len(self._sending) > self.max_bodies:
            self._cut_off_oldest()
        try:
            async with asyncio.timeout(self._within) as limit:
                limits.add(limit)
                try:
                    yield
                finally:
                    limits.discard(limit)
        except TimeoutError:
            self._on_cut_off()
            log.warning("a scrape was cut off: it was read too slowly", size=body.size)
        finally:
            if not limits:
                self._sending.pop(body, None)

    def _cut_off_oldest(self) -> None:
        oldest = next(iter(self._sending))
        for limit in self._sending.pop(oldest):
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


class BodyResponse(StreamingResponse):
    """A body in the encoding that was asked for."""

    def __init__(self, body: Body, wanted: Wanted, sender: Sender) -> None:
        size = body.packed_size if wanted.gzip else body.size
        headers = exposition_headers(wanted) | {"content-length": str(size)}
        self._chunks = _packed(body) if wanted.gzip else _opened(body)
        super().__init__(self._chunks, headers=headers)
        self._body = body
        self._sender = sender

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._sender.limit(self._body):
                await super().__call__(scope, receive, send)
        finally:
            # Whoever hangs up ends this by an exception, whose traceback may live for long.
            await self._chunks.aclose()
            del self._body


async def _packed(body: Body) -> AsyncGenerator[bytes]:
    chunks = iter(body.packed)
    del body
    try:
        for chunk in chunks:
            yield chunk
    finally:
        del chunks


async def _opened(body: Body) -> AsyncGenerator[bytes]:
    chunks, is_large = body.opened(), body.size > BLOCK
    del body
    loop = asyncio.get_running_loop()
    try:
        while True:
            chunk = await loop.run_in_executor(worker, _next, chunks) if is_large else _next(chunks)
            if chunk is None:
                return
            yield chunk
    finally:
        del chunks


def _next(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)
