"""The model of credentials: which are valid, independent of any clock. Pure."""

import itertools
from typing import NamedTuple


class Credential(NamedTuple):
    """A credential for `path`."""

    path: str
    text: str
    what: str


class CredentialModel:
    """The valid credentials."""

    def __init__(self) -> None:
        self.valid: dict[Credential, bool] = {}
        self._numbers = itertools.count()

    def next_number(self) -> int:
        return next(self._numbers)

    def expected(self, credential: Credential) -> int:
        """Return the status that every gateway must return for an invalid body."""
        return 400 if self.valid[credential] else 401

    def faults(self, gateway: str, statuses: dict[Credential, int]) -> list[str]:
        """Return which responses of a gateway are wrong."""
        return [
            f"{gateway} returns {status} for {each.what}, not {self.expected(each)}"
            for each, status in statuses.items()
            if status != self.expected(each)
        ]
