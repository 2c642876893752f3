"""A blocking client of the API for commands; errors are one sentence."""

import asyncio
from collections.abc import Iterator
from typing import Any, Self

from tobogganing.api_client.session import ApiResponse, ManagerApi, ManagerUnreachableError
from tobogganing.api_client.tokens import option_of
from tobogganing.backoff import backoff
from tobogganing.errors import LocalError

ATTEMPTS = 5
PATIENCE = 15.0
"""Longest `Retry-After` in seconds that a command waits for."""
PAGE = 1000

Body = dict[str, Any]


class ManagerClient:
    """Sends requests to a gateway or exporter; a context manager."""

    def __init__(self, url: str, token: str | None, token_name: str = "ADMIN_TOKEN") -> None:
        """`token_name` is the token's name in error messages."""
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
        """Return the response's body; `about` names the entity in errors, as `client anna`.

        Requests that get 429 or 503 are repeated after `Retry-After`.

        Raises:
            LocalError: there was no response, or its status is not 200.
        """
        return self._runner.run(self._request(method, path, body, query, about))

    def get_or_none(self, path: str) -> Body | None:
        """Return the response's body, or None for 404.

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
                raise LocalError(f"{self.url}{path} is not a gateway's response: check --url")
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
            is_temporary = response.status in (429, 503) and response.retry_after <= PATIENCE
            if not is_temporary or attempt == ATTEMPTS:
                break
            unconfirmed = unconfirmed or response.status == 503
            await asyncio.sleep(backoff(attempt, response.retry_after))
        where = f"{self.url}{path}"
        message = error_message(response, where, about, unconfirmed, secret=self._token_name)
        raise LocalError(message)


def unreachable_error(url: str, error: ManagerUnreachableError) -> str:
    return (
        f"no gateway responds at {url} ({_printable(error.reason)}): start one, or set another "
        "with --url or TOBOGGANING_URL"
    )


def error_message(
    response: ApiResponse,
    where: str,
    about: str,
    unconfirmed: bool = False,
    *,
    secret: str = "ADMIN_TOKEN",
) -> str:
    """What is wrong and what to do, in one line; `unconfirmed`: an earlier attempt got 503."""
    reason = _printable(str(response.body.get("error") or "no reason given"))
    match response.status:
        case 200:
            return f"{where} is not a gateway's response: check --url"
        case 401 if response.body:
            key = " or the API key" if secret == "ADMIN_TOKEN" else ""
            return (
                f"the credential is refused (401): check {secret}, {option_of(secret)}{key}, and "
                "that --url is the installation that it belongs to"
            )
        case 404 if about and reason.endswith("not found") and reason != "Not Found":
            return f"there is no {about} (404): the `list` command shows the existing ones"
        case 404 | 405:
            return f"the server does not know {where}: check --url, or update the gateway"
        case 409 if unconfirmed:
            return (
                f"{reason}: perhaps by the previous attempt, which was not confirmed. If it is "
                "yours, give it a new key with `rotate`"
            )
        case 409:
            return f"{reason} (409)"
        case 429:
            return f"{reason}: try again in {response.retry_after:.0f} s"
        case 503:
            return f"{where} is unavailable (503: {reason}): try again when the gateway is ready"
    return f"{where} responded {response.status}: {reason}"


def _printable(text: str) -> str:
    """Text from another machine, in one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]
