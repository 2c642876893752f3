"""A gateway as a command asks it: one question after another, faults as one sentence."""

import asyncio
from collections.abc import Iterator
from typing import Any, Self

from tobogganing.admin_token import option_of
from tobogganing.local.errors import LocalError
from tobogganing.manager_api import Answer, ManagerApi, UnreachableError
from tobogganing.pace import backoff

ATTEMPTS = 5
PATIENCE = 15.0
"""Seconds that a command waits where `Retry-After` asks for it; more is for its user to decide."""
PAGE = 1000

Body = dict[str, Any]


class Manager:
    """Asks a gateway; a context manager."""

    def __init__(self, url: str, token: str | None, secret: str = "ADMIN_TOKEN") -> None:
        """`secret` is what the installation calls this token."""
        self.url = url.rstrip("/")
        self._token = token
        self._secret = secret
        self._runner = asyncio.Runner()
        self._api = ManagerApi(self.url, connections=1)

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._runner.run(self._api.__aenter__())
        return self

    def __exit__(self, *exception: Any) -> None:
        self._runner.run(self._api.__aexit__())
        self._runner.__exit__(*exception)

    def ask(
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
        return self._runner.run(self._ask(method, path, body, query, about))

    def find(self, path: str) -> Body | None:
        """Return the answer, or None for 404.

        Raises:
            LocalError: as `ask`.
        """
        return self._runner.run(self._ask("GET", path, None, None, "", may_miss=True)) or None

    def pages(self, path: str, collection: str, query: dict[str, str]) -> Iterator[Body]:
        """Every page of a listing: `{<collection>: […], "total": n}`.

        Raises:
            LocalError: as `ask`.
        """
        query = {"limit": str(PAGE), **query}
        while True:
            page = self.ask("GET", path, query=query)
            if not isinstance(page.get(collection), list):
                raise LocalError(f"{self.url}{path} does not answer as a gateway does: check --url")
            yield page
            if not page.get("next"):
                return
            query = query | {"after": str(page["next"])}

    async def _ask(
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
                answer = await self._api.ask(method, path, self._token, body=body, query=query)
            except UnreachableError as error:
                raise LocalError(unreachable(self.url, error)) from None
            if answer.status == 200 and answer.body:
                return answer.body
            if answer.status == 404 and may_miss:
                return {}
            is_passing = answer.status in (429, 503) and answer.retry_after <= PATIENCE
            if not is_passing or attempt == ATTEMPTS:
                break
            unconfirmed = unconfirmed or answer.status == 503
            await asyncio.sleep(backoff(attempt, answer.retry_after))
        raise LocalError(
            sentence(answer, f"{self.url}{path}", about, unconfirmed, secret=self._secret)
        )


def unreachable(url: str, error: UnreachableError) -> str:
    """What to do where nobody answers."""
    cause = error.__cause__
    reason = str(cause) or type(cause).__name__ if cause else str(error)
    return (
        f"no gateway answers at {url} ({_line(reason)}): start one, or name another with --url "
        "or TOBOGGANING_URL"
    )


def sentence(
    answer: Answer,
    where: str,
    about: str,
    unconfirmed: bool = False,
    *,
    secret: str = "ADMIN_TOKEN",
) -> str:
    """What is wrong, and what to do, in one line. `unconfirmed`: an attempt before this had 503."""
    said = _line(str(answer.body.get("error") or "nothing more"))
    match answer.status:
        case 200:
            return f"{where} does not answer as a gateway does: check --url"
        case 401 if answer.body:
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
            return f"{said}: try again in {answer.retry_after:.0f} s"
        case 503:
            return f"{where} could not do it (503: {said}): try again when the gateway is ready"
    return f"{where} answered {answer.status}: {said}"


def _line(text: str) -> str:
    """Text of another machine as a terminal can show it, in one line."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]
