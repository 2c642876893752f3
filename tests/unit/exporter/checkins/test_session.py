"""Sessions: who may continue without the token, and for how long."""

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from exporter.checkins.session import COOKIE, SECURE_COOKIE, Sessions
from exporter.checkins.sign_in import safe_target
from service.config.secrets import ReloadableTokens

TOKEN = "a-token-of-32-characters-or-so"


def request(cookie: str = "", scheme: str = "http") -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": scheme,
        "server": ("h", 80),
        "path": "/",
        "query_string": b"",
        "headers": [(b"cookie", cookie.encode())] if cookie else [],
    }
    return Request(scope)


def started(sessions: Sessions, token: str = TOKEN, scheme: str = "http") -> str:
    response = Response()
    sessions.start(request(scheme=scheme), response, token)
    return response.headers["set-cookie"]


def sessions(tokens: str = TOKEN, now: float = 1000.0, lifetime: float = 60.0) -> Sessions:
    return Sessions(ReloadableTokens(tokens), lifetime, lambda: now)


def cookie(header: str) -> str:
    return header.split(";")[0]


def test_a_session_continues_at_every_exporter_until_it_ends() -> None:
    own = cookie(started(sessions()))
    assert sessions(now=1059).is_valid(request(own))
    assert not sessions(now=1060).is_valid(request(own))
    assert not sessions(now=600).is_valid(request(own)), "it began in the future"


def test_a_rotated_token_ends_its_sessions() -> None:
    own = cookie(started(sessions()))
    assert sessions(f"{TOKEN},another-token-of-the-installation").is_valid(request(own))
    assert not sessions("another-token-of-the-installation").is_valid(request(own))


@pytest.mark.parametrize("change", ["", "x", "1000.", "1000." + "0" * 64, "²000." + "0" * 64])
def test_nothing_else_is_a_session(change: str) -> None:
    assert not sessions().is_valid(request(f"{COOKIE}={change}"))


def test_a_later_start_cannot_be_forged() -> None:
    name, _, content = cookie(started(sessions())).partition("=")
    _, _, signature = content.partition(".")
    assert not sessions(now=2000).is_valid(request(f"{name}=2000.{signature}"))


def test_the_attributes_of_the_cookie() -> None:
    plain, secure = started(sessions()), started(sessions(), scheme="https")
    for header in (plain, secure):
        assert "HttpOnly" in header
        assert "SameSite=strict" in header
        assert "Max-Age=60" in header
        assert "Path=/" in header
        assert "Domain" not in header
        assert TOKEN not in header
    assert "Secure" in secure
    assert secure.startswith(f"{SECURE_COOKIE}=")
    assert "Secure" not in plain
    assert not sessions().is_valid(request(cookie(plain), scheme="https"))


@pytest.mark.parametrize(
    "target",
    [
        *["", "/", "//evil.example", "https://evil.example", "/checkins//evil.example", "/metrics"],
        *["/checkins\\evil", "/checkinsevil", "/checkins?\r\nset-cookie: a=b", "javascript:0"],
    ],
)
def test_a_sign_in_leads_only_to_these_pages(target: str) -> None:
    assert safe_target(target) == "/checkins"


def test_a_sign_in_leads_where_the_browser_was() -> None:
    assert safe_target("/checkins?kind=headends&q=a") == "/checkins?kind=headends&q=a"
    assert safe_target("/checkins/clients/c-1") == "/checkins/clients/c-1"
