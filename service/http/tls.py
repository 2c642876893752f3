"""TLS of a server without an edge: a certificate that is read again when it changes.

TLS 1.2 is the oldest version, as OpenSSL's defaults have it.
"""

import asyncio
import os
import ssl

import structlog

log = structlog.get_logger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two checks of the files."""

FileState = tuple[tuple[int, int, int], ...]


class ServerCertificate:
    """The certificate and key of a server; new connections use the newest valid pair.

    Raises:
        ssl.SSLError: the files are not a certificate and its key.
        OSError: a file cannot be read.
    """

    def __init__(self, certificate: str, key: str | None) -> None:
        self._files = (certificate, key or certificate)
        self._seen = self._state()
        self.context = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    async def follow(self) -> None:
        """Use changed files, until cancelled. Files that are no valid pair are logged and ignored:
        while a pair is replaced, its certificate and key do not match."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            self.reload_if_changed()

    def reload_if_changed(self) -> None:
        try:
            state = self._state()
            if state == self._seen:
                return
            self._seen = state
            # A context that failed to load a pair may have lost its key, so another one tries.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except OSError as error:  # ssl.SSLError is one
            log.error("TLS certificate not used", file=self._files[0], reason=str(error))
        else:
            log.info("TLS certificate changed", file=self._files[0])

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.load_cert_chain(*self._files, password=_no_password)
        return context

    def _state(self) -> FileState:
        stats = map(os.stat, self._files)
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


def _no_password() -> str:
    """Without it, OpenSSL prompts on the terminal."""
    raise ssl.SSLError("the key is encrypted")
