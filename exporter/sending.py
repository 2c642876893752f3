"""Sending bodies: whoever reads too slowly is cut off, so that few bodies are held at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from exporter.body import BLOCK, Body
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
        super().__init__(_packed(body) if wanted.gzip else _opened(body), headers=headers)
        self._body = body
        self._sender = sender

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._sender.limit(self._body):
            await super().__call__(scope, receive, send)


async def _packed(body: Body) -> AsyncIterator[bytes]:
    for chunk in body.packed:
        yield chunk


async def _opened(body: Body) -> AsyncIterator[bytes]:
    chunks = body.opened()
    if body.size <= BLOCK:
        for chunk in chunks:
            yield chunk
        return

    def open_next() -> bytes | None:
        return next(chunks, None)

    while (opened := await asyncio.to_thread(open_next)) is not None:
        yield opened
