"""`tobogganing run` on other addresses, with TLS, and with a Prometheus."""

import json
import signal
import socket
import ssl
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.debian import or_give_up
from tests.e2e.local_run import LocalRun, wait_for
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import free_ports, own_address
from tobogganing.devstack.prometheus import prometheus_program


def _is_healthy(url: str, context: ssl.SSLContext | None = None) -> bool:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(f"{url}/-/healthy", timeout=10) as response:
        return bool(response.status == 200)


def test_all_addresses_of_the_machine_and_another_port_of_kafka(tmp_path: Path) -> None:
    """Another program has taken the port that Kafka had before."""
    folder = tmp_path / ".state" / "kafka"
    folder.mkdir(parents=True)
    taken, other = free_ports(2)
    (folder / "ports").write_text(f"{taken} {other}")
    with (
        socket.create_server(("127.0.0.1", taken)),
        LocalRun(tmp_path / ".state", environ={"HOST": "::"}) as run,
    ):
        run.until_ready()
        servers = (folder / "bootstrap-servers").read_text().strip()
        assert servers != f"127.0.0.1:{taken}"
        assert "warning: HOST=:: without TLS" in run.output
        for host in ("127.0.0.1", "[::1]"):
            assert _is_healthy(f"http://{host}:{run.port}")
        urls = (run.state / "url").read_text().split()
        assert urls[0] == f"http://[::1]:{run.port}"
        assert run.paste(), "the printed block works with this address"
        assert run.end(signal.SIGTERM) == 0


def test_https_with_the_printed_lines(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    certificate.write_text(self_signed(datetime.now(UTC)))
    environ = {"TLS_CERTIFICATE": str(certificate), "HOST": "0.0.0.0"}
    with LocalRun(tmp_path / ".state", environ=environ) as run:
        run.until_ready()
        assert "without TLS" not in run.output
        setup = run.output[run.output.index("export PATH") : run.output.index("\n\nRegister")]
        shown = run.paste(setup)
        assert "tobogganing_client_bytes_sent" in shown
        listed = run.shell(f"{setup}\ntobogganing clients list")
        assert "Test client" in listed
        with pytest.raises((OSError, ssl.SSLError)):
            _is_healthy(f"http://127.0.0.1:{run.port}")
        assert run.end(signal.SIGTERM) == 0


def test_an_address_for_other_machines_is_printed_and_alerts_are_seen_on_the_first_day(
    tmp_path: Path,
) -> None:
    or_give_up(prometheus_program)

    def get(url: str) -> Any:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=10
        ) as response:
            return json.loads(response.read())["data"]

    environ = {"HOST": "0.0.0.0", "PROMETHEUS": "1"}
    with LocalRun(tmp_path / ".state", environ=environ) as run:
        run.until_ready()
        assert (
            "warning: HOST=0.0.0.0 without TLS: others in the network can read API keys"
            in run.output
        )
        assert "0.0.0.0" not in run.output.partition("Ready.")[2]
        if address := own_address("0.0.0.0"):
            assert f"http://{address}:{run.port}/" in run.output
            assert _is_healthy(f"http://{address}:{run.port}")

        (line,) = [line for line in run.output.splitlines() if "/alerts" in line]
        url = line.split()[0].removesuffix("/alerts")

        def up() -> set[str]:
            found = get(f"{url}/api/v1/query?query=up==1")["result"]
            return {each["metric"]["job"] for each in found}

        jobs = {"tobogganing-manager", "tobogganing-processor", "prometheus"}
        wait_for(lambda: up() == jobs, "every target is scraped")
        groups = get(f"{url}/api/v1/rules")["groups"]
        names = {rule["name"] for group in groups for rule in group["rules"]}
        assert {"ClientOffline", "PipelineStuck", "DeadLetters"} <= names
        assert run.end(signal.SIGTERM) == 0
        with pytest.raises(OSError, match="refused"):
            get(f"{url}/api/v1/rules")
