"""Clients that submit to an installation and keep what was acknowledged."""

import contextlib
import ssl
import threading
from collections.abc import Iterator

import httpx

from tests.docker.installation import URL, Installation, wait_for

CLIENTS = 20


def register_client(installation: Installation, id: str) -> str:
    """Register a client; return its key."""
    with installation.http(token="ADMIN_TOKEN") as http:
        response = http.post(
            "/api/v1/clients/register", json={"name": id, "type": "docker", "client_id": id}
        )
    assert response.status_code == 200, response.text
    return str(response.json()["api_key"])


class Fleet:
    """Registered clients; each submits its next number until it is acknowledged."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._keys: dict[str, str] = {}
        self.acknowledged: dict[str, int] = {}
        self.receipts: dict[str, str] = {}
        """The last receipt of each client."""

    def register(self, prefix: str) -> None:
        for number in range(CLIENTS):
            id = f"{prefix}-{number}"
            self._keys[id] = register_client(self._installation, id)

    def report(self, url: str = URL, verify: ssl.SSLContext | bool = True) -> None:
        """Each client submits once."""
        with httpx.Client(base_url=url, timeout=30, trust_env=False, verify=verify) as http:
            for id, key in self._keys.items():
                number = self.acknowledged.get(id, 0) + 1

                def submitted(id: str = id, key: str = key, number: int = number) -> str | None:
                    response = http.post(
                        f"/api/v1/clients/{id}/metrics",
                        json={"metrics": {"bytes_sent": number}},
                        headers={"authorization": f"Bearer {key}"},
                    )
                    assert response.status_code in (200, 429, 502, 503, 504), response.text
                    return str(response.json()["receipt"]) if response.is_success else None

                self.receipts[id] = wait_for(submitted, f"submission of {id}")
                self.acknowledged[id] = number

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Report continuously during the context."""
        stop = threading.Event()
        failures: list[BaseException] = []

        def reports() -> None:
            try:
                while not stop.is_set():
                    self.report()
            except BaseException as error:  # raised below, in the thread of the test
                failures.append(error)

        thread = threading.Thread(target=reports)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert not failures, failures

    def assert_all_shown(self) -> None:
        """Every acknowledged number is shown, and no other."""
        shown = self._installation.values(*self.receipts.values())
        assert {id: shown.get(id) for id in self.acknowledged} == self.acknowledged
