"""A gateway as a command asks it: one question after another, faults as one sentence."""

import asyncio
from collections.abc import Iterator
from typing import Any, Self

from tobogganing.api_client.session import ApiResponse, ManagerApi, ManagerUnreachableError
from tobogganing.api_client.tokens import option_of
from tobogganing.backoff import backoff
from tobogganing.errors import LocalError

ATTEMPTS = 5
PATIENCE = 15.0
"""Seconds that a command waits where `Retry-After` asks for it; more is for its user to decide."""
PAGE = 1000

Body = dict[str, Any]


class ManagerClient:
    """Asks a gateway; a context manager."""

    def __init__(self, url: str, token: str | None, token_name: str = "ADMIN_TOKEN") -> None:
        """`token_name` is what the installation calls this token."""
        self.url = url.rstrip("/")
        self._token = token
        self._token_name = token_name
        self._runner = asyncio.Runner()
        self._api = ManagerApi(self.url, connections=1)

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._runner.run(self._api.__aenter__())
        return self

    def __exit__(self, *exception: Any) -> None:
        self._runner.run(self._api.__aexit__())
        self._runner.__exit__(*exception)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        query: dict[str, str] | None = None,
        about: str = "",
    ) -> Body:
        """Return the answer; `about` says in a fault what was asked about, as `client anna`.

        What a gateway refuses for the moment (429, 503) is sent again as `Retry-After` says.

        Raises:
            LocalError: there was no answer, or another than 200.
        """
        return self._runner.run(self._request(method, path, body, query, about))

    def get_or_none(self, path: str) -> Body | None:
        """Return the answer, or None for 404.

        Raises:
            LocalError: as `request`.
        """
        return self._runner.run(self._request("GET", path, None, None, "", may_miss=True)) or None

    def pages(self, path: str, collection: str, query: dict[str, str]) -> Iterator[Body]:
        """Every page of a listing: `{<collection>: […], "total": n}`.

        Raises:
            LocalError: as `request`.
        """
        query = {"limit": str(PAGE), **query}
        while True:
            page = self.request("GET", path, query=query)
            if not isinstance(page.get(collection), list):
                raise LocalError(f"{self.url}{path} does not answer as a gateway does: check --url")
            yield page
            if not page.get("next"):
                return
            query = query | {"after": str(page["next"])}

    async def _request(
        self,
        method: str,
        path: str,
        body: Body | None,
        query: dict[str, str] | None,
        about: str,
        *,
        may_miss: bool = False,
    ) -> Body:
        unconfirmed = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await self._api.request(
                    method, path, self._token, body=body, query=query
                )
            except ManagerUnreachableError as error:
                raise LocalError(unreachable_error(self.url, error)) from None
            if response.status == 200 and response.body:
                return response.body
            if response.status == 404 and may_miss:
                return {}
            is_passing = response.status in (429, 503) and response.retry_after <= PATIENCE
            if not is_passing or attempt == ATTEMPTS:
                break
            unconfirmed = unconfirmed or response.status == 503
            await asyncio.sleep(backoff(attempt, response.retry_after))
        raise LocalError(
            error_message(
                response, f"{self.url}{path}", about, unconfirmed, secret=self._token_name
            )
        )


def unreachable_error(url: str, error: ManagerUnreachableError) -> str:
    """What to do where nobody answers."""
    cause = error.__cause__
    reason = str(cause) or type(cause).__name__ if cause else str(error)
    return (
        f"no gateway answers at {url} ({_printable(reason)}): start one, or name another with "
        "--url or TOBOGGANING_URL"
    )


def error_message(
    response: ApiResponse,
    where: str,
    about: str,
    unconfirmed: bool = False,
    *,
    secret: str = "ADMIN_TOKEN",
) -> str:
    """What is wrong, and what to do, in one line. `unconfirmed`: an attempt before this had 503."""
    said = _printable(str(response.body.get("error") or "nothing more"))
    match response.status:
        case 200:
            return f"{where} does not answer as a gateway does: check --url"
        case 401 if response.body:
            return (
                f"the credential is refused (401): check {secret}, {option_of(secret)}"
                f"{' or the API key' if secret == 'ADMIN_TOKEN' else ''}, and that --url is the "
                "installation that it belongs to"
            )
        case 404 if about and said.endswith("not found") and said != "Not Found":
            return f"there is no {about} (404): the `list` command shows what is there"
        case 404 | 405:
            return f"{where} is unknown to what answers there: check --url, or update the gateway"
        case 409 if unconfirmed:
            return (
                f"{said}: perhaps by the attempt before this one, which was not confirmed. If it "
                "is yours, give it a new key with `rotate`"
            )
        case 409:
            return f"{said} (409)"
        case 429:
            return f"{said}: try again in {response.retry_after:.0f} s"
        case 503:
            return f"{where} could not do it (503: {said}): try again when the gateway is ready"
    return f"{where} answered {response.status}: {said}"


def _printable(text: str) -> str:
    """Text of another machine as a terminal can show it, in one line."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]
