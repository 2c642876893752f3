"""Which gateway a command talks to, and with which token."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # The command line starts without it.
    from tobogganing.api_client.client import ManagerClient


@dataclass(frozen=True)
class ApiTarget:
    """A gateway, and the credential for it."""

    url: str
    token_file: str | None = None
    token_name: str | None = "ADMIN_TOKEN"
    """Which token is shown; None where nothing is asked for but what needs no credential."""

    def token(self) -> str:
        """
        Raises:
            LocalError: there is none.
        """
        from tobogganing.api_client.tokens import read_token

        assert self.token_name is not None, "what is open needs no token"
        return read_token(self.token_name, self.token_file, os.environ)

    def client(self) -> "ManagerClient":
        """
        Raises:
            LocalError: the token is not there.
        """
        from tobogganing.api_client.client import ManagerClient

        if self.token_name is None:
            return ManagerClient(self.url, None)
        return ManagerClient(self.url, self.token(), self.token_name)
