"""How commands find the local run: its URLs, and whether it runs."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tobogganing.devstack.locks import is_locked
from tobogganing.devstack.ports import LOOPBACK

INVALID = -1
DEFAULT_PORTS = {"http": 80, "https": 443}


def lock_file(state: Path) -> Path:
    """The lock that a run holds."""
    return state / "lock"


@contextlib.contextmanager
def published_urls(state: Path, urls: Sequence[str]) -> Iterator[None]:
    """Publish the URLs of a run while it serves them; the first is for this machine."""
    file = _url_file(state)
    temporary = file.with_suffix(".part")
    temporary.write_text("".join(f"{url}\n" for url in urls), encoding="ascii")
    temporary.replace(file)
    try:
        yield
    finally:
        forget_urls(state)


def forget_urls(state: Path) -> None:
    """Remove the URLs of a run that was killed."""
    _url_file(state).unlink(missing_ok=True)


def running_urls(state: Path) -> list[str]:
    """The URLs of the run on `state`; empty if none is ready."""
    try:
        urls = _url_file(state).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
    return urls if is_locked(lock_file(state)) else []


def url_fault(url: str) -> str:
    """What is wrong with the URL of an installation; "" if it is valid."""
    if "://" not in url:
        likely = f"127.0.0.1:{url}" if url.isdigit() else url
        return f"{url!r} has no scheme: write http://{likely}, or https://{likely} with TLS"
    scheme, host, port = _origin(url)
    if scheme not in DEFAULT_PORTS:
        return f"{url!r}: the scheme must be http or https"
    if not host or port == INVALID:
        return f"{url!r} is not a URL: it has no valid host and port"
    return ""


def without_localhost(url: str, urls: Sequence[str]) -> str:
    """The run's own URL if `url` has the host `localhost`, else `url`.

    `localhost` may also be ::1, where another program could listen and receive the run's tokens.
    """
    scheme, host, port = _origin(url)
    if host != "localhost":
        return url
    return next((each for each in urls if _origin(each) == (scheme, LOOPBACK, port)), url)


def same_origin(first: str, second: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return _origin(first) == _origin(second)


def _url_file(state: Path) -> Path:
    return state / "url"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0].lower(), None, INVALID
    try:
        port = parts.port
    except ValueError:
        port = INVALID
    return parts.scheme, parts.hostname, port or DEFAULT_PORTS.get(parts.scheme)
