"""Signing in and out with a form."""

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from exporter.checkins import pages
from exporter.checkins.session import Sessions
from service.http.bearer_auth import StaticTokenAuth
from service.http.errors import ApiError

MAX_FORM = 8192
"""Maximum size of a form in bytes; a token has 4,096 characters at most."""
HOME = "/checkins"


class SignIn:
    """The endpoints that start and end sessions."""

    def __init__(self, sessions: Sessions, check_token: StaticTokenAuth) -> None:
        self._sessions = sessions
        self._check_token = check_token

    async def start(self, request: Request) -> Response:
        """Start a session with the token in the form."""
        _check_same_origin(request)
        form = await _form(request)
        token = form.get("token", "").strip()
        try:
            self._check_token.check(token, request)
        except ApiError as error:
            return pages.sign_in_page(request, error, form.get("next", ""))
        response = redirect(safe_target(form.get("next", "")))
        self._sessions.start(request, response, token)
        return response

    async def end(self, request: Request) -> Response:
        """End the browser's session."""
        _check_same_origin(request)
        response = redirect(HOME)
        self._sessions.end(request, response)
        response.headers["clear-site-data"] = '"cache"'
        return response


def redirect(target: str) -> Response:
    return RedirectResponse(target, 303, headers={"cache-control": "no-store"})


def safe_target(path: str) -> str:
    """Return a path of these pages to redirect to; any other target could be another site."""
    is_own = path == HOME or path.startswith((HOME + "?", HOME + "/"))
    is_plain = path.isascii() and path.isprintable() and "\\" not in path and "//" not in path
    return path if is_own and is_plain and len(path) <= MAX_FORM else HOME


def _check_same_origin(request: Request) -> None:
    """Refuse a form that another site sends.

    Raises:
        ApiError: 403, the browser says that the request comes from another site.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(403, "Forbidden: this form is on another site")


async def _form(request: Request) -> dict[str, str]:
    """Read a form.

    Raises:
        ApiError: 413, it is too large.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise ApiError(413, f"The form is larger than {MAX_FORM} bytes")
    fields = parse_qs(body.decode("latin-1"), max_num_fields=10)
    return {name: values[-1] for name, values in fields.items()}
