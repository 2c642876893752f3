"""Bodies that have come and that no application has taken yet, bounded for a whole server.

uvicorn bounds them for each connection, to 64 KiB and a read: thousands of connections are
thousands of times that.
"""

from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.crowd import Crowd

MAX_UNREAD = 32 * 1024 * 1024
"""Bytes of bodies that may wait for their applications, on all connections of a server."""


class Unread:
    """What waits on one connection."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._sizes: dict[RequestResponseCycle, int] = {}

    def has_room(self, size: int) -> bool:
        """Tell whether so much more may wait."""
        return self._crowd.unread_bytes + size <= MAX_UNREAD

    def noted(self, cycle: RequestResponseCycle, app: Any) -> Any:
        """The application, with note taken when it takes the body of a request."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            async def take() -> Message:
                message = await receive()
                self._forget(cycle)
                return message

            await app(scope, take, send)

        return run

    def add(self, cycle: RequestResponseCycle, size: int) -> None:
        """Count what has come of a body."""
        self._sizes[cycle] = self._sizes.get(cycle, 0) + size
        self._crowd.unread_bytes += size

    def drop(self, cycle: RequestResponseCycle) -> None:
        """Throw away what waits of a body."""
        cycle.body = bytearray()
        self._forget(cycle)

    def drop_answered(self) -> None:
        """Throw away what is left of requests that were answered before their bodies were taken."""
        for cycle in [each for each in self._sizes if each.response_complete]:
            self.drop(cycle)

    def end(self) -> None:
        """Throw everything away: the connection is over."""
        for cycle in [*self._sizes]:
            self.drop(cycle)

    def _forget(self, cycle: RequestResponseCycle) -> None:
        self._crowd.unread_bytes -= self._sizes.pop(cycle, 0)
