"""The crowd: what the connections of one server know of each other.

That is those on which nothing is being answered, the longest so first, and what all of them hold.
"""

from collections import OrderedDict
from typing import Protocol
from weakref import WeakKeyDictionary


class Closeable(Protocol):
    def close_for_another(self) -> None: ...


class Crowd:
    """Knows who has to go when somebody else needs the place."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Closeable, None] = OrderedDict()
        self.held_bytes = 0
        """Bytes of all requests that are held, as they will be when they are complete."""
        self.head_bytes = 0
        """Bytes of heads, and of what is not parsed yet (service.heads)."""
        self.unread_bytes = 0
        """What has come of the other bodies and was not taken by their applications."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_lines = b""

    def header_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The headers of every answer as lines; uvicorn makes a new list each second."""
        if headers is not self._headers:
            self._header_lines = b"".join([b"%b: %b\r\n" % each for each in headers])
            self._headers = headers
        return self._header_lines

    def join(self, connection: Closeable) -> None:
        """Wait from now on, if it does not wait already."""
        self._waiting.setdefault(connection)

    def leave(self, connection: Closeable) -> None:
        """Wait no more: something is being answered, or it has ended."""
        self._waiting.pop(connection, None)

    def thin_out(self) -> bool:
        """Close the connection that has waited the longest; False if none waits."""
        if not self._waiting:
            return False
        connection, _ = self._waiting.popitem(last=False)
        connection.close_for_another()
        return True


_crowds: WeakKeyDictionary[object, Crowd] = WeakKeyDictionary()


def crowd_of(server: object) -> Crowd:
    """The one crowd of a server, which is whatever its connections have in common."""
    return _crowds.setdefault(server, Crowd())
