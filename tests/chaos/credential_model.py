"""The model of credentials: which are valid, whatever any clock says. Pure."""

import itertools
from typing import NamedTuple


class Credential(NamedTuple):
    """What opens `path`."""

    path: str
    text: str
    what: str


class CredentialModel:
    """Which credentials are valid."""

    def __init__(self) -> None:
        self.valid: dict[Credential, bool] = {}
        self._numbers = itertools.count()

    def next_number(self) -> int:
        return next(self._numbers)

    def expected(self, credential: Credential) -> int:
        """The status that every gateway must answer to a body that is not valid."""
        return 400 if self.valid[credential] else 401

    def faults(self, gateway: str, answered: dict[Credential, int]) -> list[str]:
        """Say which answers of a gateway are wrong."""
        return [
            f"{gateway} answers {status} to {each.what}, not {self.expected(each)}"
            for each, status in answered.items()
            if status != self.expected(each)
        ]
