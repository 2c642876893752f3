"""Churn: clients that register, report, rotate keys and are removed, each on new connections."""

import asyncio
import contextlib
import re
from typing import Any

import httpx

from bench.errors import WrongResultError
from bench.running_stack import RunningStack
from contract.position import Receipt

INTERVAL = 1.0
"""Seconds between clients."""
CHECKED_EACH = 5
"""Every nth client is checked in scrapes."""


class Churn:
    """Registers and removes one client after the other; the model records their responses."""

    def __init__(self, stack: RunningStack, admin: dict[str, str]) -> None:
        self.clients = 0
        """Number of clients that were registered and removed."""
        self._stack = stack
        self._admin = admin

    async def run(self, over: asyncio.Event) -> None:
        """Run until `over` is set; the last client is removed before this returns.

        Raises:
            WrongResultError: a response or a scrape is wrong.
        """
        none_kept = httpx.Limits(max_keepalive_connections=0)
        url = self._stack.gateway.url
        async with httpx.AsyncClient(base_url=url, limits=none_kept, trust_env=False) as self._http:
            while not over.is_set():
                await self._one(f"churn-{self.clients}", self.clients % CHECKED_EACH == 0)
                self.clients += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await over.wait()

    async def _one(self, id: str, is_checked: bool) -> None:
        path = f"/api/v1/clients/{id}"
        registration = {"name": id, "type": "native", "client_id": id}
        registered = await self._request(200, "/api/v1/clients/register", self._admin, registration)
        key = registered["api_key"]
        for number in (1, 2):
            await self._submit(id, key, number)
        rotated = await self._request(200, f"{path}/rotate-key", _bearer(key))
        await self._request(401, f"{path}/metrics", _bearer(key), {"metrics": {}})
        key = rotated["new_api_key"]
        last = await self._submit(id, key, 3)
        if is_checked and await self._shown(id, last) != [b"3"]:
            raise WrongResultError(f"{id} is not shown with the acknowledged values")
        removed = await self._request(200, path, self._admin, method="DELETE")
        self._stack.note_single(removed["receipt"], id, {})
        await self._request(401, f"{path}/metrics", _bearer(key), {"metrics": {}})
        if is_checked and await self._shown(id, removed["receipt"]):
            raise WrongResultError(f"{id} is shown after it was removed")

    async def _submit(self, id: str, key: str, number: int) -> str:
        metrics: dict[str, int | float] = {"bytes_sent": number}
        path = f"/api/v1/clients/{id}/metrics"
        answer = await self._request(200, path, _bearer(key), {"metrics": metrics})
        receipt: str = answer["receipt"]
        self._stack.note_single(receipt, id, metrics)
        return receipt

    async def _shown(self, id: str, receipt: str) -> list[bytes]:
        """Return the client's samples in a scrape that includes this receipt."""
        page = await self._stack.scrape([Receipt.parse(receipt)])
        line = rb'^tobogganing_client_bytes_sent{client_id="%b",[^}]*} (\S+)$' % id.encode()
        return re.findall(line, page.body, re.MULTILINE)

    async def _request(
        self,
        status: int,
        path: str,
        headers: dict[str, str],
        body: dict[str, Any] | None = None,
        method: str = "POST",
    ) -> dict[str, Any]:
        answer = await self._http.request(method, path, json=body, headers=headers)
        if answer.status_code != status:
            raise WrongResultError(f"{method} {path} got the status {answer.status_code}")
        found: dict[str, Any] = answer.json()
        return found


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
