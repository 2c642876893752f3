"""All agents of examples/ enrol and rotate their keys, with faults and kills at any moment.

The manager here stores keys as a gateway does, but is stricter: an old key ends as soon as the next
one takes effect. tests/deploy/test_examples.py uses the real manager.
"""

import asyncio
import hashlib
import http.server
import json
import os
import random
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from tests.deploy.agents import ExampleAgent
from tests.deploy.fleet import NAMES, agent
from tests.deploy.test_hostile_responses import HTML, JSON, MANAGER, RECEIPT, TOKEN, Reply

ENROLMENT_TOKEN = "site~token-of-the-enrolment"
SOON = "0.00001"
"""ROTATE_KEY_DAYS of less than a second."""
Effect = Literal["none", "done", "lost"]


class Fault(NamedTuple):
    """The failure of a request to enrol or to rotate a key.

    With `effect` "done" the manager first executes the request. `nonce_kept` is whether the next
    attempt repeats this one.
    """

    reply: Reply
    effect: Effect = "none"
    nonce_kept: bool = True


def reply(name: str, status: int, headers: dict[str, str], body: bytes) -> Reply:
    return Reply(name, status, headers, body, "waiting")


LOST = reply("closed", 0, {}, b"")
FAULTS = [
    Fault(LOST),
    Fault(LOST, "done"),
    Fault(reply("may take effect", 503, MANAGER, b'{"error":"not confirmed"}')),
    Fault(reply("took effect", 503, MANAGER, b'{"error":"not confirmed"}'), "done"),
    Fault(reply("fault", 500, MANAGER, b'{"error":"Internal server error"}')),
    Fault(reply("limit", 429, MANAGER | {"Retry-After": "0"}, b'{"error":"Too many"}')),
    Fault(reply("no use left", 403, MANAGER, b'{"error":"no use left"}')),
    Fault(reply("bad", 400, MANAGER, b'{"error":"name: is missing"}')),
    Fault(reply("too large", 413, MANAGER, b'{"error":"too large"}')),
    Fault(reply("wrong token", 401, MANAGER, b'{"error":"Unauthorized"}')),
    Fault(reply("old manager", 404, MANAGER, b'{"error":"Not Found"}')),
    Fault(reply("taken", 409, MANAGER, b'{"error":"registered already"}'), nonce_kept=False),
    Fault(reply("another's 409", 409, JSON, b'{"error":"conflict"}')),
    Fault(reply("proxy's 401", 401, HTML, b"<h1>Log in</h1>")),
    Fault(reply("captive portal", 200, HTML, b"<html>Welcome</html>")),
    Fault(reply("captive portal in JSON", 200, JSON, b'{"status":"ok"}')),
    Fault(reply("numbers", 200, JSON, b'{"client_id":1,"headend_id":1,"api_key":2}')),
    Fault(reply("no id", 200, JSON, b'{"client_id":"../x","headend_id":"../x","api_key":"k"}')),
    Fault(reply("a list", 200, JSON, b"[]")),
    Fault(reply("cut short", 200, {"Content-Length": "1000"}, b'{"client_id":')),
    Fault(reply("redirection", 302, {"Location": "http://127.0.0.1:9/"}, b"")),
]
KEY_FAULTS = [fault for fault in FAULTS if fault.reply.name not in ("numbers", "no id")]


class Manager(http.server.ThreadingHTTPServer):
    """Registers agents of one kind by enrolment, and rotates their keys."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kind = "client"
        self.lock = threading.Lock()
        self.keys: dict[str, str] = {}
        """Id -> the key that is valid."""
        self.faults: list[Fault] = []
        """The failures of the next requests to enrol or to rotate a key."""
        self.loses = 0.0
        """Share of such requests whose response is lost."""
        self.nonces: list[str] = []
        """The nonces of all requests to enrol."""
        self.statuses: Counter[int] = Counter()
        """Responses to submissions."""
        self.rotations = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def enrol(self, bearer: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        if bearer != ENROLMENT_TOKEN:
            return 401, {"error": "Unauthorized"}
        digest = hashlib.sha256(body["nonce"].encode()).hexdigest()
        id = body.get(f"{self.kind}_id") or f"{self.kind}-{digest[:16]}"
        self.keys[id] = random.randbytes(16).hex()
        return 200, {f"{self.kind}_id": id, "api_key": self.keys[id], "name": body["name"]}

    def rotate(self, id: str, bearer: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        if self.keys.get(id) != bearer:
            return 401, {"error": "Unauthorized"}
        assert body["overlap_seconds"] > 0
        self.rotations += self.keys[id] != body["new_api_key"]
        self.keys[id] = body["new_api_key"]
        return 200, {f"{self.kind}_id": id, "new_api_key": self.keys[id]}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Manager

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bearer = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        with self.server.lock:
            self._handle(self.path.split("/")[3:], bearer, content)

    def _handle(self, path: list[str], bearer: str, content: bytes) -> None:
        server = self.server
        match path:
            case ["auth", "token"]:
                body = json.loads(content)
                fits = server.keys.get(body["node_id"]) == body["api_key"]
                self._respond(*((200, MANAGER, TOKEN) if fits else (401, MANAGER, b"{}")))
            case ["enrol"]:
                body = json.loads(content)
                server.nonces.append(body["nonce"])
                self._exchange(lambda: server.enrol(bearer, body))
            case [_, id, "rotate-key"]:
                self._exchange(lambda: server.rotate(id, bearer, json.loads(content)))
            case [_, id, "metrics"]:
                token = json.loads(TOKEN)["access_token"]
                own = token if server.kind == "headend" else server.keys.get(id)
                fits = id in server.keys and bearer == own
                server.statuses[200 if fits else 401] += 1
                self._respond(*((200, MANAGER, RECEIPT) if fits else (401, MANAGER, b"{}")))
            case _:
                raise AssertionError(path)

    def _exchange(self, do: Callable[[], tuple[int, dict[str, str]]]) -> None:
        server = self.server
        fault = server.faults.pop(0) if server.faults else None
        if fault is None and random.random() < server.loses:
            fault = Fault(LOST, random.choice(("none", "done")))
        if fault is None or fault.effect == "done":
            status, document = do()
        if fault is None:
            self._respond(status, MANAGER, json.dumps(document).encode())
        elif fault.reply.status:
            self._respond(fault.reply.status, fault.reply.headers, fault.reply.body)
        self.close_connection = True

    def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", headers.get("Content-Length") or str(len(body)))
        for name in headers.keys() - {"Content-Length"}:
            self.send_header(name, headers[name])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def manager() -> Iterator[Manager]:
    with Manager() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=NAMES)
def newcomer(
    request: pytest.FixtureRequest, manager: Manager, go_binaries: Path, tmp_path: Path
) -> ExampleAgent:
    """Each agent, with the token of an enrolment, without id and key."""
    made = agent(request.param, go_binaries, tmp_path, manager.url)
    manager.kind = made.kind
    (made.folder / "key").unlink()
    (made.folder / "token").write_text(ENROLMENT_TOKEN + "\n")
    made.environ["ENROLMENT_TOKEN_FILE"] = str(made.folder / "token")
    if request.param != "shell-client":  # which counts in whole seconds
        made.environ["MAX_PAUSE_SECONDS"] = "0.1"
    del made.environ[f"{made.kind.upper()}_ID"]
    return made


def own_key(agent: ExampleAgent) -> str:
    """The key in its file, which only its owner can read."""
    for file in agent.folder.glob("key*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    return (agent.folder / "key").read_text().strip()


def is_valid(manager: Manager, agent: ExampleAgent) -> bool:
    """Whether the manager accepts the key on its disk."""
    id = agent.environ.get(f"{agent.kind.upper()}_ID") or (agent.folder / "key.id").read_text()
    return manager.keys[id.strip()] == own_key(agent)


async def once(agent: ExampleAgent) -> int:
    """Run it once, without the pause from earlier runs."""
    (agent.folder / "queue/pause").unlink(missing_ok=True)
    return await agent.once()


async def test_it_enrols_at_its_first_start_and_only_then(
    manager: Manager, newcomer: ExampleAgent
) -> None:
    assert await newcomer.once() == 0, newcomer.log()
    assert is_valid(manager, newcomer)
    key = own_key(newcomer)
    assert await newcomer.once() == 0
    assert own_key(newcomer) == key
    assert len(manager.nonces) == 1
    assert manager.statuses == {200: 2}
    assert {file.name for file in newcomer.folder.glob("key*")} == {"key", "key.id"}
    assert key not in newcomer.log()
    assert ENROLMENT_TOKEN not in newcomer.log()


async def test_an_id_of_its_own_is_enrolled(manager: Manager, newcomer: ExampleAgent) -> None:
    newcomer.environ[f"{newcomer.kind.upper()}_ID"] = "mine"
    assert await newcomer.once() == 0, newcomer.log()
    assert manager.keys == {"mine": own_key(newcomer)}


async def test_no_response_to_an_enrolment_loses_a_sample_or_the_agent(
    manager: Manager, newcomer: ExampleAgent
) -> None:
    """Each fault once; then the enrolment succeeds, and all samples arrive."""
    for number, fault in enumerate(FAULTS):
        before, manager.nonces = set(manager.nonces[-1:]), []
        manager.faults = [fault] * 9  # the shell client may try more than once a run
        assert await once(newcomer) == 1, (fault, newcomer.log())
        if number and FAULTS[number - 1].nonce_kept:
            assert manager.nonces[0] in before, (fault, newcomer.log())
        elif number:
            assert manager.nonces[0] not in before, (fault, newcomer.log())
        tries = len(manager.nonces)
        assert len(set(manager.nonces)) == (1 if fault.nonce_kept else tries)
        assert not (newcomer.folder / "key").exists(), fault
        assert not newcomer.rejected(), fault
        assert len(newcomer.waiting()) == number + 1, (fault, newcomer.log())
        assert "Traceback" not in newcomer.log()
        assert "panic" not in newcomer.log()
    manager.faults = []
    assert await once(newcomer) == 0, newcomer.log()
    assert is_valid(manager, newcomer)
    assert not newcomer.waiting()
    assert newcomer.count("dropped") == newcomer.count("rejected_total") == 0


async def test_no_response_to_a_rotation_locks_an_agent_out(
    manager: Manager, newcomer: ExampleAgent
) -> None:
    assert await newcomer.once() == 0, newcomer.log()
    newcomer.environ["ROTATE_KEY_DAYS"] = "1"
    days_ago = time.time() - 2 * 86_400
    for fault in KEY_FAULTS:
        manager.faults, before = [fault], own_key(newcomer)
        os.utime(newcomer.folder / "key", (days_ago, days_ago))
        assert await once(newcomer) == 0, (fault, newcomer.log())
        assert own_key(newcomer) == before, fault
        assert not manager.faults, "it has tried"
        rotations = manager.rotations
        assert await once(newcomer) == 0, (fault, newcomer.log())
        assert own_key(newcomer) != before, (fault, newcomer.log())
        assert is_valid(manager, newcomer), fault
        assert manager.rotations == rotations + (fault.effect == "none"), fault
        assert not (newcomer.folder / "key.next").exists()
    assert not newcomer.waiting()
    assert newcomer.count("rejected_total") == 0


async def test_a_key_that_an_operator_replaced_forgets_the_next_one(
    manager: Manager, newcomer: ExampleAgent
) -> None:
    """An attacker who has read the agent's disk must not regain access with a key from it."""
    assert await newcomer.once() == 0
    ((id, _),) = manager.keys.items()
    newcomer.environ["ROTATE_KEY_DAYS"] = "1"
    os.utime(newcomer.folder / "key", (0, 0))
    manager.faults = [Fault(LOST)]
    assert await newcomer.once() == 0
    seen = (newcomer.folder / "key.next").read_text().split()
    manager.keys[id] = "from-the-operator"
    assert await once(newcomer) == 1
    (newcomer.folder / "key").write_text("from-the-operator\n")
    assert await once(newcomer) == 0, newcomer.log()
    assert manager.keys[id] not in seen
    assert not (newcomer.folder / "key.next").exists()


@pytest.mark.parametrize("days", ["-1", "often", "nan"])
async def test_a_period_that_is_none_is_said(days: str, newcomer: ExampleAgent) -> None:
    newcomer.environ["ROTATE_KEY_DAYS"] = days
    assert await newcomer.once() == 2
    assert "ROTATE_KEY_DAYS" in newcomer.log()


async def test_kills_and_lost_responses_lock_nobody_out(
    manager: Manager, newcomer: ExampleAgent
) -> None:
    """It enrols and rotates its key continuously, is killed at random moments, and half of the
    manager's responses about keys are lost.
    """
    newcomer.environ |= {"ROTATE_KEY_DAYS": SOON, "INTERVAL_SECONDS": "0.05"}
    manager.loses = 0.5
    chance = random.Random(7)
    for _ in range(25):
        await newcomer.start()
        await asyncio.sleep(chance.uniform(0.05, 0.6))  # the random moment of the kill
        await newcomer.kill()
    manager.loses = 0.0
    newcomer.environ["ROTATE_KEY_DAYS"] = "0"
    async with asyncio.timeout(60):
        while await once(newcomer) != 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert is_valid(manager, newcomer), newcomer.log()
    assert not newcomer.waiting()
    assert manager.rotations >= 2
    assert newcomer.count("dropped") == newcomer.count("rejected_total") == 0
