"""Bearer credentials."""

import hmac

from starlette.requests import Request

from service.refusals import Refusals
from service.requests import Credential, RequestMetrics
from service.rotating import MAX_CREDENTIAL, RotatingTokens


def bearer_credential(request: Request) -> str | None:
    """Return the credential of the request's only Authorization header, if it is a Bearer one."""
    given: list[bytes] = [
        value for name, value in request.scope["headers"] if name == b"authorization"
    ]
    return parse_bearer(given[0]) if len(given) == 1 else None


def parse_bearer(header: bytes) -> str | None:
    """Return the credential of an Authorization header, if it is a Bearer one."""
    scheme, _, credential = header.decode("latin-1").partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not 0 < len(credential) <= MAX_CREDENTIAL:
        return None
    return credential


class TokenCheck:
    """Requires one of the installation's own tokens, and counts the attempt."""

    def __init__(
        self,
        tokens: RotatingTokens,
        credential: Credential,
        metrics: RequestMetrics,
        refusals: Refusals | None = None,
    ) -> None:
        self._tokens = tokens
        self._credential = credential
        self._metrics = metrics
        self._refusals = refusals or Refusals(metrics)

    def fits(self, given: str | None) -> bool:
        """Tell whether this is one of the tokens; counts nothing."""
        shown = (given or "").encode("utf-8", "surrogatepass")
        fits = [hmac.compare_digest(shown, token.encode()) for token in self._tokens.current()]
        return any(fits)

    def __call__(self, request: Request) -> None:
        """Pass, or raise.

        Raises:
            ApiError: 401 or 429, whatever is wrong.
        """
        if not self.fits(bearer_credential(request)):
            raise self._refusals.refuse(self._credential, request.scope)
        self._metrics.count_attempt(self._credential, True)
