"""All agents of examples/ get the same responses, and discard only what the manager has rejected.

Intermediaries (a proxy, a firewall, a captive portal) have their own 400, 413 and 200.
"""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from service.http.server import MANAGER_HEADER
from tests.deploy.agents import ExampleAgent
from tests.deploy.fleet import NAMES, agent
from tobogganing.devstack.certificate import self_signed

JSON = {"Content-Type": "application/json"}
MANAGER = JSON | {MANAGER_HEADER[0]: MANAGER_HEADER[1]}
HTML = {"Content-Type": "text/html"}
RECEIPT = b'{"status":"metrics_received","receipt":"0-1-0"}'
TOKEN = b'{"access_token":"e30.eyJpYXQiOjEsImV4cCI6OTl9.x"}'


class Reply(NamedTuple):
    """A response, and the state of a sample afterwards: sent, waiting or rejected."""

    name: str
    status: int
    headers: dict[str, str]
    body: bytes
    sample: str


ANSWERS = [
    Reply("received", 200, MANAGER, RECEIPT, "sent"),
    Reply("rejected", 400, MANAGER, b'{"error":"timestamp is ahead"}', "rejected"),
    Reply("too large", 413, MANAGER, b'{"error":"too large"}', "rejected"),
    Reply("wrong key", 401, MANAGER, b'{"error":"Unauthorized"}', "waiting"),
    Reply("removed", 404, MANAGER, b'{"error":"Client not found"}', "waiting"),
    Reply("limit", 429, MANAGER | {"Retry-After": "1"}, b'{"error":"Too many"}', "waiting"),
    Reply("overload", 503, MANAGER | {"Retry-After": "1"}, b'{"error":"try again"}', "waiting"),
    Reply("fault", 500, MANAGER, b'{"error":"Internal server error"}', "waiting"),
    Reply(
        "nginx: plain HTTP to a TLS port",
        400,
        HTML | {"Server": "nginx"},
        b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
        "waiting",
    ),
    Reply("nginx: client_max_body_size", 413, HTML, b"<h1>413 Too Large</h1>", "waiting"),
    Reply("API gateway", 400, JSON, b'{"message":"Bad Request"}', "waiting"),
    Reply("firewall with our field", 400, JSON, b'{"error":"blocked"}', "waiting"),
    Reply("invalid HTTP request", 400, JSON, b'{"error":"not a valid request"}', "waiting"),
    Reply("empty 400", 400, {}, b"", "waiting"),
    Reply("another product's header", 400, {"Tobogganing-Service": "waf"}, b"", "waiting"),
    Reply("captive portal", 200, HTML, b"<html>Welcome</html>", "waiting"),
    Reply("captive portal in JSON", 200, JSON, b'{"status":"ok"}', "waiting"),
    Reply("empty 200", 200, {}, b"", "waiting"),
    Reply("no content", 204, {}, b"", "waiting"),
    Reply("redirection", 302, {"Location": "http://127.0.0.1:9/login"}, b"", "waiting"),
    Reply("proxy login", 407, HTML, b"<html>Log in</html>", "waiting"),
    Reply("date to retry", 503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"", "waiting"),
    Reply("bad gateway", 502, HTML, b"<html>Bad gateway</html>", "waiting"),
    Reply("cut short", 400, {"Content-Length": "1000"}, b"<html>", "waiting"),
    Reply("not HTTP", 0, {}, b"SSH-2.0-OpenSSH_9.2\r\n", "waiting"),
    Reply("closed", 0, {}, b"", "waiting"),
]  # fmt: skip


class Responder(http.server.BaseHTTPRequestHandler):
    """Issues tokens, and sends one response to every other request."""

    answer: Reply
    bearers: list[str | None]
    sizes: list[int]

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if self.path == "/api/v1/auth/token":
            self._respond(200, MANAGER, TOKEN)
            return
        self.bearers.append(self.headers["Authorization"])
        self.sizes.append(length)
        answer = self.answer
        if answer.status:
            self._respond(answer.status, answer.headers, answer.body)
        else:
            self.wfile.write(answer.body)
        self.close_connection = True

    def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", headers.get("Content-Length") or str(len(body)))
        for name in headers.keys() - {"Content-Length"}:
            self.send_header(name, headers[name])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class ScriptedServer(http.server.ThreadingHTTPServer):
    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    Responder.answer, Responder.bearers, Responder.sizes = ANSWERS[0], [], []
    with ScriptedServer(("127.0.0.1", 0), Responder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=NAMES)
def reporter(
    request: pytest.FixtureRequest, server: ScriptedServer, go_binaries: Path, tmp_path: Path
) -> ExampleAgent:
    return agent(request.param, go_binaries, tmp_path, server.url)


def outcome(reporter: ExampleAgent) -> str:
    """The state of the one sample in the queue."""
    queue = Path(reporter.environ["QUEUE_DIR"])
    found = [file.parent.name for file in queue.glob("*/*.json")]
    assert len(found) <= 1
    return found[0] if found else "sent"


async def test_a_sample_is_discarded_only_on_the_managers_word(reporter: ExampleAgent) -> None:
    """One agent after the other, with each response once and a separate queue."""
    for number, answer in enumerate(ANSWERS):
        reporter.environ["QUEUE_DIR"] = str(reporter.folder / f"queues/{number}")
        Responder.answer = answer
        status = await reporter.once()
        queue = Path(reporter.environ["QUEUE_DIR"])
        found = {
            "waiting": len([*(queue / "waiting").glob("*.json")]),
            "rejected": len([*(queue / "rejected").glob("*.json")]),
        }
        found["sent"] = 1 - sum(found.values())
        assert found == {name: int(name == answer.sample) for name in found}, (
            answer,
            reporter.log(),
        )
        assert status == (1 if answer.sample == "waiting" else 0), answer
        assert "Traceback" not in reporter.log()
        assert "panic" not in reporter.log()


async def test_a_proxy_that_takes_less_gets_smaller_requests(
    reporter: ExampleAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All waiting samples arrive, although every request with several samples fails."""
    too_large = next(each for each in ANSWERS if each.name == "nginx: client_max_body_size")
    Responder.answer = next(each for each in ANSWERS if each.name == "bad gateway")
    for _ in range(5):
        assert await reporter.once() == 1
    queued = reporter.waiting()
    assert len(queued) == 5
    one = min(Responder.sizes)
    respond = Responder._respond

    def limited(self: Responder, status: int, headers: dict[str, str], body: bytes) -> None:
        own = self.path == "/api/v1/auth/token" or int(self.headers["Content-Length"]) <= one + 20
        respond(self, *((status, headers, body) if own else too_large[1:4]))

    monkeypatch.setattr(Responder, "_respond", limited)
    Responder.answer = ANSWERS[0]
    reporter.environ["RUN_SECONDS"] = "30"  # of the shell client: it tries again within a run
    await reporter.start()
    await reporter.until_gone(queued)
    await reporter.stop()
    assert not reporter.rejected()
    assert reporter.count("dropped") == 0


async def test_the_python_client_resumes_its_tls_session(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    Responder.answer, Responder.bearers, Responder.sizes = ANSWERS[0], [], []
    reused = []

    class TLSResponder(Responder):
        def do_POST(self) -> None:
            assert isinstance(self.connection, ssl.SSLSocket)
            reused.append(self.connection.session_reused)
            super().do_POST()

    with ScriptedServer(("127.0.0.1", 0), TLSResponder) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"https://localhost:{server.server_address[1]}"
        client = agent("python-client", tmp_path, tmp_path, url)
        client.environ["SSL_CERT_FILE"] = str(certificate)
        await client.start()
        await client.until_sent(3)
        await client.stop()
        server.shutdown()
        thread.join()
    assert reused[:3] == [False, True, True]


KEYS = {
    "line end": (b"key\n", True),
    "no line end": (b"key", True),
    "Windows line end": (b"key\r\n", True),
    "blanks around it": (b" \tkey \t\r\n\n", True),
    "byte order mark": (b"\xef\xbb\xbfkey\r\n", True),
    "quote and backslash": (b'k"e\\y\n', True),
    "empty": (b"", False),
    "blank": (b" \r\n", False),
    "two keys": (b"two keys\n", False),
    "two lines": (b"two\nkeys\n", False),
    "NUL": (b"k\0ey\n", False),
    "not ASCII": ("schlüssel\n".encode(), False),
    "UTF-16": ("key\n".encode("utf-16"), False),
}


async def test_a_faulty_key_file_is_no_fault_of_the_samples(reporter: ExampleAgent) -> None:
    token = json.loads(TOKEN)["access_token"]
    for number, (content, valid) in enumerate(KEYS.values()):
        reporter.environ["QUEUE_DIR"] = str(reporter.folder / f"queues/{number}")
        (reporter.folder / "key").write_bytes(content)
        (reporter.folder / "log").unlink(missing_ok=True)
        Responder.bearers.clear()
        status = await reporter.once()
        assert outcome(reporter) == ("sent" if valid else "waiting"), (content, reporter.log())
        if valid:
            key = token if reporter.kind == "headend" else content.decode("utf-8-sig").strip()
            assert status == 0, (content, reporter.log())
            assert Responder.bearers[0] == f"Bearer {key}"
        else:
            assert status == 1, content
            assert "does not contain exactly one API key" in reporter.log(), content
            assert not Responder.bearers


async def test_without_a_key_file_samples_wait(reporter: ExampleAgent) -> None:
    (reporter.folder / "key").unlink()
    assert await reporter.once() == 1
    assert "API_KEY_FILE" in reporter.log()
    assert "Errno" not in reporter.log()
    assert len(reporter.waiting()) == 1
    assert not reporter.rejected()


@pytest.mark.parametrize("content", ["\n", "", "-1\n", "0x10\n", "none\n", "1.5\n"])
async def test_a_counter_that_is_no_number_is_not_reported(
    content: str, reporter: ExampleAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = reporter.machine.root / "sys/class/net/wg0/statistics/tx_bytes"
    monkeypatch.setattr(reporter.machine, "go_on", lambda: counter.write_text(content))
    assert await reporter.once() == 1
    assert "nothing to report" in reporter.log()
    assert not reporter.waiting()
    assert not Responder.sizes
