"""Parses the requests in a connection's bytes with h11, as the reference."""

from typing import NamedTuple

import h11


class ReferenceResult(NamedTuple):
    """A complete request."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def reference(data: bytes) -> list[ReferenceResult]:
    """Return the requests that h11 finds; empty lines before a request are ignored (RFC
    9112, 2.2)."""
    seen: list[ReferenceResult] = []
    while True:
        while data.startswith(b"\r\n"):
            data = data[2:]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        connection.receive_data(data)
        request, body = None, b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    return seen
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return seen
        except h11.RemoteProtocolError:
            return seen
        assert request is not None
        headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
        seen.append(ReferenceResult(bytes(request.method), bytes(request.target), headers, body))
        connection.send(h11.Response(status_code=405, headers=[(b"content-length", b"0")]))
        connection.send(h11.EndOfMessage())
        if connection.their_state is not h11.DONE:
            return seen
        data = connection.trailing_data[0]
