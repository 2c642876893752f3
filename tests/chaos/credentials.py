"""Issues, rotates and revokes credentials, and checks them at every gateway.

Their headends never report. A gateway checks the credential before the body, so an invalid body
tests the credential: the status is 400 if it is valid, else 401.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt

from tests.chaos.credential_model import Credential, CredentialModel
from tests.chaos.fleet import CLUSTER
from tests.chaos.installation import ADMIN_TOKEN

KNOWN_WITHIN = 2.0
"""Seconds within which every gateway must know of a change."""
POLL = 0.1
OVERLAP = 604_800
"""Seconds that a rotated key stays valid: the maximum, as old keys are checked to the end of
a run."""


@dataclass
class Keeper:
    """Changes credentials at single gateways, and checks them at all gateways."""

    model: CredentialModel
    http: aiohttp.ClientSession

    async def change(self, here: str, there: str) -> None:
        """Issue, rotate and revoke some credentials at the gateways `here` and `there`."""
        number = self.model.next_number()
        token = await self._headend(f"t-{number}", here)
        lost, kept = await token(here), await token(there)
        answer = await self._post(there, "auth/revoke", {"jti": _jti_of(lost.text)})
        self.model.valid |= {lost: False, kept: True}
        assert answer["status"] == "revoked"
        for name, overlap in (("o", OVERLAP), ("k", 0)):
            id = f"{name}-{number}"
            body = {"name": id, "type": "native", "client_id": id}
            old = (await self._post(here, "clients/register", body))["api_key"]
            path = f"clients/{id}/rotate-key"
            new = (await self._post(there, path, {"overlap_seconds": overlap}))["new_api_key"]
            path = f"clients/{id}/metrics"
            self.model.valid |= {
                Credential(path, old, f"the old key of {id}"): bool(overlap),
                Credential(path, new, f"the new key of {id}"): True,
            }

    async def check(self, urls: Sequence[str]) -> None:
        """Try every credential at every gateway.

        Raises:
            AssertionError: a response is wrong, and stays wrong.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + KNOWN_WITHIN
        while True:
            faults = []
            for url in urls:
                answered = {each: await self._status(url, each) for each in self.model.valid}
                faults += self.model.faults(url, answered)
            if not faults:
                return
            assert loop.time() < deadline, "; ".join(faults)
            await asyncio.sleep(POLL)

    async def _headend(self, id: str, url: str) -> Callable[[str], Awaitable[Credential]]:
        body = {"name": id, "cluster_id": CLUSTER, "headend_id": id}
        key = (await self._post(url, "headends/register", body))["api_key"]

        async def token(where: str) -> Credential:
            asked = {"node_id": id, "node_type": "headend", "api_key": key}
            text = (await self._post(where, "auth/token", asked))["access_token"]
            return Credential(f"headends/{id}/metrics", text, f"a token of {id} from {where}")

        return token

    async def _post(self, url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self.http.post(f"{url}/api/v1/{path}", json=body, headers=headers) as answer:
            content: dict[str, Any] = await answer.json()
            assert answer.status == 200, f"{path}: {answer.status} {content}"
            return content

    async def _status(self, url: str, credential: Credential) -> int:
        headers = {"Authorization": f"Bearer {credential.text}"}
        path = f"{url}/api/v1/{credential.path}"
        async with self.http.post(path, json={"metrics": 0}, headers=headers) as answer:
            return answer.status


def _jti_of(token: str) -> str:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return str(claims["jti"])
