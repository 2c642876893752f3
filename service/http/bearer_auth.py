"""Bearer credentials and static tokens."""

import hmac

from starlette.requests import Request

from service.config.secrets import MAX_CREDENTIAL, ReloadableTokens
from service.http.auth_failures import AuthFailureLimiter
from service.metrics.requests import Credential, RequestMetrics

AUTHORIZATION = b"authorization"


def bearer_credential(request: Request) -> str | None:
    """Return the credential of the request's only Authorization header, if its scheme is Bearer."""
    given: list[bytes] = [
        value for name, value in request.scope["headers"] if name == AUTHORIZATION
    ]
    return parse_bearer(given[0]) if len(given) == 1 else None


def parse_bearer(header: bytes) -> str | None:
    """Return the credential of an Authorization header, if its scheme is Bearer."""
    scheme, _, credential = header.decode("latin-1").partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not 0 < len(credential) <= MAX_CREDENTIAL:
        return None
    return credential


class StaticTokenAuth:
    """Requires one of the installation's static tokens, and counts each attempt."""

    def __init__(
        self,
        tokens: ReloadableTokens,
        credential: Credential,
        metrics: RequestMetrics,
        auth_failures: AuthFailureLimiter | None = None,
    ) -> None:
        self._tokens = tokens
        self._credential = credential
        self._metrics = metrics
        self._auth_failures = auth_failures or AuthFailureLimiter(metrics)

    def matches(self, credential: str | None) -> bool:
        """Return whether the credential is one of the tokens; does not count the attempt."""
        shown = (credential or "").encode("utf-8", "surrogatepass")
        fits = [hmac.compare_digest(shown, token.encode()) for token in self._tokens.current()]
        return any(fits)

    def __call__(self, request: Request) -> None:
        """Check the request's credential, and count the attempt.

        Raises:
            ApiError: 401 or 429 if the credential is missing or wrong.
        """
        self.check(bearer_credential(request), request)

    def check(self, credential: str | None, request: Request) -> None:
        """Check a credential that came another way than in a header, and count the attempt.

        Raises:
            ApiError: 401 or 429 if the credential is missing or wrong.
        """
        if not self.matches(credential):
            raise self._auth_failures.failure(self._credential, request.scope)
        self._metrics.count_attempt(self._credential, True)
