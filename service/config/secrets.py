"""Reads secrets from files, and reloads tokens that change without a restart."""

import stat
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from service.plural import counted

log = structlog.get_logger(__name__)

MAX_SECRET = 64 * 1024
"""Maximum size of a secret's file in bytes."""
MIN_TOKEN = 16
"""Minimum length of a token in characters; shorter tokens can be guessed."""
MAX_CREDENTIAL = 4096
"""Maximum length of a credential in a request, in characters; issued JWTs have about 900."""
RELOAD_INTERVAL = 1.0
"""Seconds between two checks of a token file."""


class SecretError(ValueError):
    """A file or text contains no usable secret. The message never contains the secret."""


def read_secret(file: Path) -> str:
    """Read a secret, without surrounding white space.

    Raises:
        SecretError: the file cannot be read, is empty, or is too large.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_SECRET + 1)
        text = content.decode("utf-8-sig").strip()
    except OSError as error:
        raise SecretError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SecretError("is not UTF-8") from error
    if len(content) > MAX_SECRET:
        raise SecretError(f"is larger than {MAX_SECRET} bytes")
    if not text:
        raise SecretError("is empty")
    return text


def split_tokens(text: str) -> tuple[str, ...]:
    """Split a list of tokens that are separated by commas or white space.

    Raises:
        SecretError: there is no token, or one that cannot be sent in a header.
    """
    tokens = tuple(text.replace(",", " ").split())
    if not tokens:
        raise SecretError("contains no token")
    for token in tokens:
        if not (token.isascii() and token.isprintable() and len(token) <= MAX_CREDENTIAL):
            raise SecretError(
                f"contains a token that is not up to {MAX_CREDENTIAL} printable ASCII characters, "
                "as a header requires"
            )
    return tokens


def strong_tokens(text: str) -> tuple[str, ...]:
    """Split a list of tokens as `split_tokens` does, and check their length.

    Raises:
        SecretError: there is no token, or one that cannot be sent in a header or is too short.
    """
    tokens = split_tokens(text)
    shortest = min(map(len, tokens))
    if shortest < MIN_TOKEN:
        raise SecretError(
            f"contains a token of {counted(shortest, 'character')}, but at least {MIN_TOKEN} are "
            "needed: create one with `openssl rand -hex 32` (docs/secrets.md)"
        )
    return tokens


class ReloadableTokens:
    """A set of equally valid tokens, so that a new token can be added before the old one is
    removed.

    With a `file`, `current` checks the file at most once a second, and reloads it if it has
    changed. While the file contains no valid tokens, the last ones stay valid and the error is
    logged.

    Raises:
        SecretError: `text` contains no tokens.
    """

    def __init__(
        self, text: str, file: Path | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = split_tokens(text)
        self._file = file
        self._now = now
        self._check_at = float("-inf")
        self._fingerprint: tuple[int, ...] | None = None
        self._last_error = ""
        self._excluded: list[tuple[ReloadableTokens, str]] = []

    def exclude(self, others: "ReloadableTokens", variable: str) -> None:
        """Never reload a token of `others`, which `variable` sets, because it has other
        permissions."""
        self._excluded.append((others, variable))

    def current(self) -> tuple[str, ...]:
        """Return the tokens that are valid now."""
        if self._file is not None and (now := self._now()) >= self._check_at:
            self._check_at = now + RELOAD_INTERVAL
            self._reload(self._file)
        return self._tokens

    def __repr__(self) -> str:
        return "ReloadableTokens(…)"

    def _reload(self, file: Path) -> None:
        try:
            seen = _fingerprint(file)
            if seen is None or seen == self._fingerprint:
                return
            tokens = strong_tokens(read_secret(file))
            for others, variable in self._excluded:
                if {*tokens} & {*others.current()}:
                    raise SecretError(
                        f"contains a token of {variable}: replace one of them with "
                        "`openssl rand -hex 32` (docs/secrets.md)"
                    )
        except SecretError as error:
            self._report(file, str(error))
            return
        self._fingerprint = seen
        self._last_error = ""
        if tokens != self._tokens:
            self._tokens = tokens
            log.info("tokens changed", file=str(file), tokens=len(tokens))

    def _report(self, file: Path, fault: str) -> None:
        self._fingerprint = None
        if fault != self._last_error:
            log.error(
                "tokens not reloaded: repair the file; the last tokens stay valid",
                file=str(file),
                why=fault,
            )
        self._last_error = fault


def _fingerprint(file: Path) -> tuple[int, ...] | None:
    """Return values that change with a file's content; None for a pipe, which can be read only
    once.

    Raises:
        SecretError: the file does not exist or is a folder.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise SecretError(f"cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise SecretError("is a folder")
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
