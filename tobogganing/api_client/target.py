"""The gateway or exporter that a command talks to, and the token for it."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tobogganing.api_client.tokens import read_token

if TYPE_CHECKING:  # The command line starts without aiohttp.
    from tobogganing.api_client.client import ManagerClient


@dataclass(frozen=True)
class ApiTarget:
    """A URL and its credential; `token_name` is None for endpoints without authentication."""

    url: str
    token_file: str | None = None
    token_name: str | None = "ADMIN_TOKEN"

    def token(self) -> str:
        """The token.

        Raises:
            LocalError: it is missing or invalid.
        """
        assert self.token_name is not None
        return read_token(self.token_name, self.token_file, os.environ, self.url)

    def client(self) -> "ManagerClient":
        """A client, as a context manager.

        Raises:
            LocalError: the token is missing or invalid.
        """
        from tobogganing.api_client.client import ManagerClient

        if self.token_name is None:
            return ManagerClient(self.url, None)
        return ManagerClient(self.url, self.token(), self.token_name)

    def check(self) -> None:
        """Check that a gateway responds and accepts the token, before something longer begins.

        Raises:
            LocalError: it does not respond, or rejects the token; the text says what to do.
        """
        self.request("GET", "/api/v1/clusters", query={"limit": "1"})

    def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a single request: see ManagerClient.request."""
        with self.client() as client:
            return client.request(method, path, **options)
