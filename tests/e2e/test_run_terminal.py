"""The terminal of `tobogganing run`, and what it leaves in `.state` for the other terminal."""

import asyncio
import http.server
import json
import re
import signal
import stat
import subprocess
import threading
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer

from tests.e2e.local_run import LocalRun, wait_for

README = Path(__file__).parents[2] / "README.md"
CLIENTS, SINGLE = 2_000, 100
"""Registered many in a request, and one in a request."""
DEAD_LETTERS = re.compile(r"dead letters written \(number=(\d+), .*?\)(?: \((\d+) more\))?$", re.M)


async def _write_rubbish(servers: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for partition in (0, 1):
            await producer.send_and_wait("tobogganing.submissions", b"rubbish", partition=partition)


def _register_one_by_one(run: LocalRun) -> None:
    headers = {"authorization": f"Bearer {run.secret('ADMIN_TOKEN')}"}
    with httpx.Client(base_url=run.url, headers=headers, timeout=60, trust_env=False) as http:
        for n in range(SINGLE):
            body = {"client_id": f"single-{n}", "name": "S", "type": "native"}
            assert http.post("/api/v1/clients/register", json=body).status_code == 200


def _servers(run: LocalRun) -> str:
    return (run.state / "kafka" / "bootstrap-servers").read_text().strip()


class Listener:
    """A program that listens on another port, and stores the credentials that it receives."""

    def __enter__(self) -> "Listener":
        self.authorizations: list[str | None] = []
        kept = self.authorizations

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kept.append(self.headers["authorization"])
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_terminal_shows_dead_letters_and_no_registrations(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.csv"
    rows = "".join(f"client,c{n},C,native\n" for n in range(CLIENTS))
    fleet.write_text(f"kind,id,name,type\n{rows}")
    with LocalRun(tmp_path / ".state") as run:
        run.until_ready()
        imported = run.command(
            "fleet", "import", str(fleet), "--credentials", str(tmp_path / "keys.csv")
        )
        assert imported.returncode == 0, imported.stderr
        _register_one_by_one(run)
        asyncio.run(_write_rubbish(_servers(run)))
        run.until_said("dead letters written")
        wait_for(lambda: _count_dead_letters(run) == 2, "two dead letters")
        assert run.end(signal.SIGTERM) == 0
        before, after = run.output.split("Ready.", 1)
        lines = [
            line
            for line in (before + after[after.rindex("-" * 78) :]).splitlines()
            if "dead letters written" not in line and " still " not in line
        ]
        assert len(lines) < 20, "\n".join(lines)
        assert "register-many" not in run.output
        logged = (run.state / "logs" / "serve.log").read_text().splitlines()
        audit = [json.loads(line) for line in logged if '"event":"audit"' in line]
        assert {f"client:single-{n}" for n in range(SINGLE)} <= {line["target"] for line in audit}


def _count_dead_letters(run: LocalRun) -> int:
    """The numbers of log lines by text; a line with repetitions counts their number."""
    count = 0
    for number, more in DEAD_LETTERS.findall(run.output):
        count += int(number) * int(more or 1)
    return count


def test_readme_works_for_another_port_and_its_tokens_go_nowhere_else(tmp_path: Path) -> None:
    """The lines of README, in a shell that was set up by the printed lines alone."""
    state = tmp_path / "a folder" / ".state"
    block = README.read_text("utf-8").split("```sh\n")[1].partition("```")[0]
    with LocalRun(state) as run:
        run.until_ready()
        setup = run.output[run.output.index("\ncd ") : run.output.index("\n\nRegister")]

        def shell(commands: str, *, status: int = 0) -> str:
            ended = subprocess.run(
                ["sh", "-euc", f"{setup}\n{commands}"],
                env={"PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert ended.returncode == status, (ended.stdout, ended.stderr)
            return ended.stdout + ended.stderr

        for _ in range(2):
            said = shell(block).splitlines()
            assert len([line for line in said if line.startswith('{"')]) == 11, said
        refused = shell(block.replace("delete $each", ":") + "\n" + block, status=22)
        assert "The client anna is already registered" in refused
        shell("tobogganing clients add Ada --type native --id ada")
        shown = shell("tobogganing status")
        assert len(shown.splitlines()) < 20, "the numbers stay in view"
        assert f"{run.url}/checkins" in shown
        assert setup in shell("tobogganing status --paste"), "as the run printed it"
        assert "10" in shell("tobogganing simulate --clients 8 --headends 2 --duration 2")
        with Listener() as listener:
            for command in ("clients list", "ledger"):
                refused = shell(f"tobogganing {command} --url {listener.url}", status=2)
                assert f"for {listener.url}" in refused
            assert listener.authorizations == []
            mine = f"ADMIN_TOKEN=mine tobogganing clients list --url {listener.url}"
            shell(mine, status=1)
            assert listener.authorizations == ["Bearer mine"]
        kafka = _servers(run)
        modes = {
            file: stat.S_IMODE(file.stat().st_mode)
            for file in (state / "secrets").rglob("*")
            if file.is_file()
        }
        assert set(modes.values()) == {0o600}, modes
        run.end(signal.SIGKILL)
        refused = shell("tobogganing clients list", status=2)
        assert "does not run" in refused
    with LocalRun(state, run.port) as again:
        again.until_ready()
        assert _servers(again) == kafka, "Kafka keeps its port"
        assert '"ada"' in shell("tobogganing clients list --json")
        assert again.end(signal.SIGTERM) == 0
