"""Browser sessions: a signed cookie, whose key derives from METRICS_TOKEN.

Every exporter with the token accepts it, and a rotation of the token ends it. The cookie holds the
time of the sign-in and no secret.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from service.config.secrets import ReloadableTokens

COOKIE = "tobogganing-session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""The name on TLS: a browser accepts this prefix only from the host itself, and with Secure."""
MAX_CLOCK_SKEW = 300
"""Seconds by which the clocks of two exporters may differ."""
_CONTENT = re.compile(r"(\d{1,12})\.([0-9a-f]{64})")
_PURPOSE = b"tobogganing check-in session 1"


class Sessions:
    """Signs and checks session cookies."""

    def __init__(
        self, tokens: ReloadableTokens, lifetime: float, now: Callable[[], float] = time.time
    ) -> None:
        self._tokens = tokens
        self._lifetime = lifetime
        self._now = now

    def is_valid(self, request: Request) -> bool:
        """Return whether a request has a session that has not ended."""
        found = _CONTENT.fullmatch(request.cookies.get(_name(request), ""))
        if found is None:
            return False
        started = int(found[1])
        age = self._now() - started
        if not -MAX_CLOCK_SKEW <= age < self._lifetime:
            return False
        fits = [
            hmac.compare_digest(found[2], _signature(token, started))
            for token in self._tokens.current()
        ]
        return any(fits)

    def start(self, request: Request, response: Response, token: str) -> None:
        """Set the cookie of a new session of `token`, which was accepted."""
        started = int(self._now())
        self._set(request, response, f"{started}.{_signature(token, started)}", self._lifetime)

    def end(self, request: Request, response: Response) -> None:
        """Delete the cookie."""
        self._set(request, response, "", 0)

    def _set(self, request: Request, response: Response, content: str, lifetime: float) -> None:
        response.set_cookie(
            _name(request),
            content,
            max_age=int(lifetime),
            path="/",
            secure=_is_secure(request),
            httponly=True,
            samesite="strict",
        )


def _is_secure(request: Request) -> bool:
    """Return whether the browser uses TLS; a trusted proxy's X-Forwarded-Proto is applied."""
    return request.url.scheme == "https"


def _name(request: Request) -> str:
    return SECURE_COOKIE if _is_secure(request) else COOKIE


def _signature(token: str, started: int) -> str:
    key = hmac.digest(token.encode(), _PURPOSE, hashlib.sha256)
    return hmac.digest(key, str(started).encode(), hashlib.sha256).hex()
