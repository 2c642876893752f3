"""Tokens that change without a restart, and how a secret's file is read."""

import stat
import time
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

MAX_SECRET = 64 * 1024
"""Longest secret in a file, in bytes."""
MIN_TOKEN = 16
"""Shortest token, in characters: what is shorter can be guessed."""
MAX_CREDENTIAL = 4096
"""Longest credential that a request may bring, in characters: a JWT of ours has about 900."""
RELOAD_INTERVAL = 1.0
"""Seconds between two looks at a file of tokens."""


class SecretError(ValueError):
    """A file, or a text, that holds no secret; the error says why, and never what it holds."""


def read_secret(file: Path) -> str:
    """Read a secret, without the white space around it.

    Raises:
        SecretError: the file cannot be read, is empty, or too large.
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
    """Return the tokens of a list that is separated by commas or white space.

    Raises:
        SecretError: there is none, or one that no request could bring.
    """
    tokens = tuple(text.replace(",", " ").split())
    if not tokens:
        raise SecretError("holds no token")
    for token in tokens:
        if not (token.isascii() and token.isprintable() and len(token) <= MAX_CREDENTIAL):
            raise SecretError(
                f"holds a token that no header can: up to {MAX_CREDENTIAL} printable ASCII "
                "characters each"
            )
    return tokens


def strong_tokens(text: str) -> tuple[str, ...]:
    """Return the tokens of a list, as `split_tokens` does, if each is long enough for us.

    Raises:
        SecretError: there is none, or one that no request could bring, or that could be guessed.
    """
    tokens = split_tokens(text)
    shortest = min(map(len, tokens))
    if shortest < MIN_TOKEN:
        raise SecretError(
            f"holds a token of {shortest} characters: at least {MIN_TOKEN} are needed. Make one "
            "with `openssl rand -hex 32` (docs/secrets.md)"
        )
    return tokens


class ReloadableTokens:
    """Tokens of which each is as good as the first, so that a new one can come before the old goes.

    With a `file` they follow what it holds: asked for, they look at it, once a second at most, and
    read it if it has changed. As long as the file would not be valid at the start, the last ones
    hold, and the log says what is wrong.

    Raises:
        SecretError: `text` holds no tokens.
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
        """Never change to a token of `others`, which `variable` sets: each opens something else."""
        self._excluded.append((others, variable))

    def current(self) -> tuple[str, ...]:
        """Return the tokens that hold now."""
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
                        f"holds a token of {variable}: replace one of them with "
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
                "tokens not changed: repair the file; until then the old ones are valid",
                file=str(file),
                why=fault,
            )
        self._last_error = fault


def _fingerprint(file: Path) -> tuple[int, ...] | None:
    """What changes with a file's content; None for a pipe, which can be read only once.

    Raises:
        SecretError: there is no such file, or it is a folder.
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
