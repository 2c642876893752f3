"""A TLS client connection that can resume a session, which asyncio's own cannot."""

import asyncio
import ssl
from collections.abc import Callable

_CHUNK = 65_536


class TlsConnection(asyncio.Protocol):
    """Encrypts what is sent before and after the handshake; `on_data` gets what is received.

    `session` is of an earlier connection to the same server, to resume it.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        context: ssl.SSLContext,
        host: str,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[Exception | None], None],
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=host, session=session
        )
        self._on_data, self._on_lost = on_data, on_lost
        self._waiting: list[bytes] = []
        self._is_open = False

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session, with the tickets that the server has sent so far."""
        return self._tls.session

    @property
    def was_resumed(self) -> bool:
        return bool(self._tls.session_reused)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._advance()

    def write(self, data: bytes) -> None:
        if self._is_open:
            self._tls.write(data)
            self._flush()
        else:
            self._waiting.append(data)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            self._advance()
        except ssl.SSLError as error:
            self._on_lost(error)
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost(error)

    def _advance(self) -> None:
        if not self._is_open:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                return
            self._is_open = True
            for data in self._waiting:
                self._tls.write(data)
        try:
            while data := self._tls.read(_CHUNK):
                self._on_data(data)
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.transport.write(self._outgoing.read())
