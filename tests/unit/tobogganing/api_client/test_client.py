"""Error messages are one sentence that says what to do."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tobogganing.api_client.client import ManagerClient, error_message
from tobogganing.api_client.session import ApiResponse, ManagerApi, ManagerUnreachableError
from tobogganing.devstack.ports import free_ports
from tobogganing.errors import LocalError

WHERE = "http://gw/api/v1/clients/anna"


def answer(status: int, retry_after: float = 0.0, **body: Any) -> ApiResponse:
    return ApiResponse(status, body, retry_after, 0.1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(401, error="Unauthorized"), "--admin-token-file"),
        (answer(404, error="Client not found"), "there is no client anna (404)"),
        (
            answer(404, error="Not Found"),
            f"does not know {WHERE}: check --url",
        ),
        (answer(404), "check --url"),
        (answer(405, error="Method Not Allowed"), "update the gateway"),
        (answer(409, error="The client anna is registered already"), "registered already (409)"),
        (answer(429, 30.0, error="Too many attempts"), "try again in 30 s"),
        (answer(503, error="Kafka did not confirm"), "503: Kafka did not confirm"),
        (answer(400, error="name: is missing", field="name"), "responded 400: name: is missing"),
        (answer(200), "is not a gateway's response: check --url"),
        (answer(500), "responded 500: no reason given"),
    ],
)
def test_an_error_is_one_line(given: ApiResponse, expected: str) -> None:
    text = error_message(given, WHERE, "client anna")
    assert expected in text
    assert "\n" not in text


def test_a_conflict_after_an_unconfirmed_attempt() -> None:
    text = error_message(answer(409, error="It is registered already"), WHERE, "", unconfirmed=True)
    assert "`rotate`" in text


def test_another_machine_cannot_write_to_the_terminal() -> None:
    text = error_message(answer(400, error="a\x1b[2J\nb" + "x" * 10_000), WHERE, "")
    assert text.isprintable()
    assert len(text) < 500


@pytest.fixture
def plain_server() -> Iterator[int]:
    """The port of a server without TLS."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_failed_connection_is_explained_in_plain_words(plain_server: int) -> None:
    (nobody,) = free_ports(1)
    for url, reason in (
        (f"http://127.0.0.1:{nobody}", "(Connection refused)"),
        (f"https://127.0.0.1:{nobody}", "(Connection refused)"),
        (f"https://127.0.0.1:{plain_server}", "it does not speak TLS as expected"),
        ("http://nowhere.invalid", "(unknown host: "),
    ):
        with ManagerClient(url, None) as client, pytest.raises(LocalError) as raised:
            client.request("GET", "/")
        assert f"no gateway responds at {url} " in str(raised.value)
        assert reason in str(raised.value)
        for jargon in ("ssl:", "Connect call", "ClientConnector", "SSL:", "Errno"):
            assert jargon not in str(raised.value)


async def test_an_attempt_of_an_import_is_explained_likewise() -> None:
    (nobody,) = free_ports(1)
    async with ManagerApi(f"http://127.0.0.1:{nobody}", 1) as api:
        with pytest.raises(ManagerUnreachableError) as raised:
            await asyncio.wait_for(api.request("GET", "/x"), 30)
    assert str(raised.value) == f"http://127.0.0.1:{nobody}/x: Connection refused"
