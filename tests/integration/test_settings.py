"""Invalid settings end every service with status 2 and one line that names the setting."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from service.config.settings import KafkaSettings
from tests.integration.processes import ADMIN_TOKEN, METRICS_TOKEN, Service
from tests.integration.test_secured_kafka import certificate
from tobogganing.devstack.ports import free_ports
from tobogganing.devstack.secrets import provide_signing_keys

GATEWAY, PROCESSOR, EXPORTER, SERVE = "gateway", "processor", "exporter", "tobogganing serve"
WORKERS = "tobogganing gateway --workers 2"
RUN = "tobogganing run"
IMPORTED = {
    GATEWAY: "gateway.app",
    WORKERS: "gateway.app",
    PROCESSOR: "processor.settings",
    EXPORTER: "exporter.app",
    SERVE: "tobogganing.manager",
    RUN: "tobogganing.devstack.run",
}
"""The programs, and a module that each imports late."""
ALL = tuple(IMPORTED)
ADMINISTERED = (GATEWAY, WORKERS, SERVE, RUN)
"""The programs with ADMIN_TOKEN."""

FORKED = Path(__file__).with_name("forked_program.py")
SSL = {"KAFKA_SECURITY_PROTOCOL": "SSL"}
SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
USER = {"KAFKA_SASL_USERNAME": "me"}
PASSWORD = {"KAFKA_SASL_PASSWORD": "mine"}


@dataclass(frozen=True)
class SettingCase:
    """Invalid settings among valid ones, and the expected line. `{here}` is the folder of files."""

    wrong: dict[str, str]
    said: str
    services: tuple[str, ...] = ALL
    everywhere: bool = False
    """The programs to run; by default one, because processes take time to start."""


def servers(value: str) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": value}


BROKERS = "KAFKA_BOOTSTRAP_SERVERS="
CASES = (
    SettingCase(
        servers("a:b"), f"{BROKERS}'a:b' is not valid: a:b is not host:port", everywhere=True
    ),
    SettingCase(servers("a:1,"), f"{BROKERS}'a:1,' is not valid: contains an empty entry"),
    SettingCase(servers(","), "contains an empty entry"),
    SettingCase(servers("a:65536"), "the port must be a number from 1 to 65535"),
    SettingCase(servers("a:0"), "the port must be a number from 1 to 65535"),
    SettingCase(servers("::1"), "as in [::1]:9092"),
    SettingCase(servers("[a]:1"), "[a] is not a host name or address"),
    SettingCase(servers(":9092"), "the empty host is not a host name"),
    SettingCase(servers("kafka://a:1"), "write host:port, without kafka://"),
    SettingCase(servers("a b:1"), "a b is not a host name"),
    SettingCase(servers("  "), "KAFKA_BOOTSTRAP_SERVERS is not set", ALL[:-1], everywhere=True),
    SettingCase(
        {"KAFKA_TOPIC_PREFIX": "a b."},
        "KAFKA_TOPIC_PREFIX='a b.' is not valid: Kafka topic",
        everywhere=True,
    ),
    SettingCase({"KAFKA_TOPIC_PREFIX": "größe."}, "topic names may only contain letters, digits"),
    SettingCase({"KAFKA_TOPIC_PREFIX": "x" * 238}, "it has 238 characters: 237 at most"),
    SettingCase({"KAFKA_PARTITIONS": "0"}, "KAFKA_PARTITIONS='0' is not valid"),
    SettingCase({"KAFKA_PARTITIONS": "4.5"}, "KAFKA_PARTITIONS='4.5' is not valid"),
    SettingCase({"KAFKA_REPLICATION": "many"}, "KAFKA_REPLICATION='many' is not valid"),
    SettingCase({"KAFKA_SECURITY_PROTOCOL": "ssl"}, "KAFKA_SECURITY_PROTOCOL='ssl' is not valid"),
    SettingCase({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM='GSSAPI' is not valid"),
    SettingCase(
        SASL | PASSWORD,
        "KAFKA_SASL_USERNAME is not set: KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT",
        everywhere=True,
    ),
    SettingCase(SASL | USER, "KAFKA_SASL_PASSWORD is not set"),
    SettingCase(
        USER,
        "KAFKA_SASL_USERNAME: not used with KAFKA_SECURITY_PROTOCOL=PLAINTEXT",
        everywhere=True,
    ),
    SettingCase(USER | PASSWORD, "KAFKA_SASL_PASSWORD, KAFKA_SASL_USERNAME: not used with"),
    SettingCase({"KAFKA_SASL_MECHANISM": "PLAIN"}, "KAFKA_SASL_MECHANISM: not used with"),
    SettingCase(SSL | USER, "set that to SASL_SSL, or unset it"),
    SettingCase({"KAFKA_SSL_CAFILE": "{here}/ca.pem"}, "KAFKA_SSL_CAFILE: not used with"),
    SettingCase(
        SSL | {"KAFKA_SSL_CAFILE": "{here}/none"},
        "none cannot be read: No such file",
        everywhere=True,
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_CAFILE": "{here}"}, "KAFKA_SSL_CAFILE={here} cannot be read: Is a dir"
    ),
    SettingCase(SSL | {"KAFKA_SSL_CAFILE": "{here}/text"}, "/text contains no certificate in PEM"),
    SettingCase(
        SSL | {"KAFKA_SSL_CAFILE": "{here}/empty"}, "/empty contains no certificate in PEM"
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_CERTFILE": "{here}/none"}, "KAFKA_SSL_CERTFILE={here}/none cannot be"
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_CERTFILE": "{here}/text"}, "KAFKA_SSL_CERTFILE={here}/text contains no"
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_CERTFILE": "{here}/ca.pem"}, "private key in PEM: set KAFKA_SSL_KEYFILE"
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_KEYFILE": "{here}/other.pem"}, "is set without KAFKA_SSL_CERTFILE"
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_CERTFILE": "{here}/ca.pem", "KAFKA_SSL_KEYFILE": "{here}/other.pem"},
        "KAFKA_SSL_KEYFILE={here}/other.pem does not belong to KAFKA_SSL_CERTFILE",
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_CERTFILE": "{here}/ca.pem", "KAFKA_SSL_KEYFILE": "{here}/locked.pem"},
        "KAFKA_SSL_KEYFILE={here}/locked.pem is encrypted",
    ),
    SettingCase(
        SSL | {"KAFKA_SSL_CERTFILE": "{here}/ca.pem", "KAFKA_SSL_KEYFILE": "{here}/none"},
        "KAFKA_SSL_KEYFILE={here}/none cannot be read",
    ),
    SettingCase(
        {"METRICS_TOKEN": "fifteen-letters"},
        "METRICS_TOKEN contains a token of 15 characters",
        everywhere=True,
    ),
    SettingCase(
        {"METRICS_TOKEN": "töken-of-the-tests"}, "METRICS_TOKEN contains a token that is not"
    ),
    SettingCase(
        {"METRICS_TOKEN": "", "METRICS_TOKEN_FILE": "{here}/none"}, "METRICS_TOKEN_FILE={here}"
    ),
    SettingCase({"METRICS_TOKEN": "", "METRICS_TOKEN_FILE": "{here}/empty"}, "/empty is empty"),
    SettingCase({"METRICS_TOKEN": "", "METRICS_TOKEN_FILE": "{here}"}, "Is a directory"),
    SettingCase({"METRICS_TOKEN": "", "METRICS_TOKEN_FILE": "{here}/utf16"}, "is not UTF-8"),
    SettingCase({"METRICS_TOKEN_FILE": "{here}/text"}, "METRICS_TOKEN_FILE are both set"),
    SettingCase(
        {"ADMIN_TOKEN": METRICS_TOKEN},
        "ADMIN_TOKEN and METRICS_TOKEN are equal",
        ADMINISTERED,
        everywhere=True,
    ),
    SettingCase(
        {"ADMIN_TOKEN": "short"}, "ADMIN_TOKEN contains a token of 5 characters", ADMINISTERED
    ),
    SettingCase({"CA_PEM": "nonsense"}, "CA_PEM", ADMINISTERED, everywhere=True),
    SettingCase(
        {"CA_PEM_FILE": "{here}/none"}, "CA_PEM_FILE={here}/none cannot be read", ADMINISTERED
    ),
    SettingCase(
        {"SIGNING_KEYS_DIR": "{here}/none"}, "SIGNING_KEYS_DIR={here}/none", ADMINISTERED[:-1]
    ),
    SettingCase({"HOST": "[::1]"}, "write ::1, without the brackets", everywhere=True),
    SettingCase({"HOST": "127.0.0.1:8000"}, "set the port in PORT"),
    SettingCase({"HOST": "192.0.2.1"}, "HOST=192.0.2.1 is not an address of this machine"),
    SettingCase({"HOST": "none.invalid"}, "HOST=none.invalid cannot be resolved"),
    SettingCase({"PORT": "99999"}, "PORT=", everywhere=True),
    SettingCase({"PORT": "http"}, "PORT="),
    SettingCase({"PORT": "{taken}"}, "PORT={taken}", everywhere=True),
    SettingCase({"TRUSTED_PROXIES": "10.0.0.1/8"}, "TRUSTED_PROXIES='10.0.0.1/8' is not valid"),
    SettingCase({"LOG_LEVEL": "TRACE"}, "LOG_LEVEL='TRACE' is not valid"),
    SettingCase(
        {"RATE_LIMIT_PER_MINUTE": "nan"}, "RATE_LIMIT_PER_MINUTE='nan' is not", ADMINISTERED
    ),
    SettingCase({"TOKEN_EXPIRY_HOURS": "-1"}, "TOKEN_EXPIRY_HOURS='-1' is not valid", ADMINISTERED),
    SettingCase({"MAX_BODY_BYTES": "64k"}, "MAX_BODY_BYTES='64k' is not valid", ADMINISTERED),
    SettingCase({"RETENTION_HOURS": "inf"}, "RETENTION_HOURS='inf' is not", (PROCESSOR, RUN)),
    SettingCase(
        {"RETENTION_HOURS": "48.5"}, "SUBMISSIONS_RETENTION_HOURS=72 must be", (PROCESSOR, RUN)
    ),
    SettingCase({"SUBMISSIONS_RETENTION_HOURS": "23"}, "SUBMISSIONS_RETENTION_HOURS='23' is not"),
    SettingCase({"RETENTION_HOURS": "0"}, "RETENTION_HOURS='0' is not valid", (PROCESSOR, RUN)),
    SettingCase(
        {"WORKER_NAMES_FOLDER": "{here}/text"}, "WORKER_NAMES_FOLDER={here}/text", (PROCESSOR,)
    ),
    SettingCase(
        {"EXPORTER_SHARD": "3/2"}, "EXPORTER_SHARD='3/2' is not valid", (EXPORTER, SERVE, RUN)
    ),
    SettingCase(
        {"EXPORTER_SHARD": "5/5"},
        "EXPORTER_SHARD=5/5 has no partition: there are 4",
        (EXPORTER, SERVE, RUN),
    ),
    SettingCase(
        {"PROCESSOR_READY_URL": "here"}, "PROCESSOR_READY_URL='here' is not valid", (SERVE,)
    ),
    SettingCase(
        {"PROMETHEUS_MULTIPROC_DIR": "{here}/text"}, "PROMETHEUS_MULTIPROC_DIR={here}", (WORKERS,)
    ),
)


@dataclass
class Bench:
    """Files that settings refer to, a port in use, and valid settings."""

    folder: Path
    taken: int
    good: dict[str, str] = field(default_factory=dict)

    def run_all(self, service: str, cases: Sequence[SettingCase]) -> list[tuple[int, str]]:
        """Return the exit status and standard error of a program for each case."""
        filled = [{k: self.fill(v) for k, v in case.wrong.items()} for case in cases]
        ended = subprocess.run(
            [sys.executable, FORKED, IMPORTED[service], *service.split()],
            input="\n".join(json.dumps(self.good | wrong) for wrong in filled),
            env=self.good,
            capture_output=True,
            text=True,
            timeout=220,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return [tuple(json.loads(line)) for line in ended.stdout.splitlines()]

    def fill(self, text: str) -> str:
        return text.replace("{here}", str(self.folder)).replace("{taken}", str(self.taken))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("files")
    _, trusted = certificate(folder)
    trusted.rename(folder / "ca.pem")
    key = generate_private_key(public_exponent=65537, key_size=2048)
    for name, encryption in (
        ("other", NoEncryption()),
        ("locked", BestAvailableEncryption(b"passphrase")),
    ):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        (folder / f"{name}.pem").write_bytes(pem)
    (folder / "text").write_text("no PEM", encoding="ascii")
    (folder / "empty").touch()
    (folder / "utf16").write_text(METRICS_TOKEN, encoding="utf-16")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        bench = Bench(folder, listener.getsockname()[1])
        bench.good = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "STATE_DIR": str(folder / "state"),
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "METRICS_TOKEN": METRICS_TOKEN,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "SIGNING_KEYS_DIR": str(provide_signing_keys(folder, {})),
            "HOST": "127.0.0.1",
            "PORT": str(free_ports(1)[0]),
        }
        yield bench


@pytest.mark.parametrize("service", ALL)
def test_an_invalid_setting_is_reported_in_one_line(bench: Bench, service: str) -> None:
    cases = [
        case
        for number, case in enumerate(CASES)
        if service in case.services
        and (case.everywhere or service == case.services[number % len(case.services)])
    ]
    wrong = [
        (case.wrong, status, text[-500:])
        for case, (status, text) in zip(cases, bench.run_all(service, cases), strict=True)
        if status != 2
        or text.count("\n") != 1
        or bench.fill(case.said) not in text
        or not any(name in text for name in case.wrong)
    ]
    assert not wrong
    assert not list(bench.folder.glob("**/tobogganing-metrics-*"))


@pytest.mark.parametrize("service", [GATEWAY, PROCESSOR])
def test_a_privileged_port_is_refused(bench: Bench, service: str) -> None:
    command = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    ended = subprocess.run(
        [*command, sys.executable, "-m", service],
        env=bench.good | {"PORT": "81"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "PORT=81 may not be opened by this user: choose a port from 1024\n"


@pytest.mark.parametrize("service", [GATEWAY, PROCESSOR])
async def test_an_ipv6_address_is_written_without_brackets(
    service: str, kafka_settings: KafkaSettings, tmp_path: Path, bench: Bench
) -> None:
    keys = bench.good["SIGNING_KEYS_DIR"]
    secrets = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": keys}
    started = Service(service, kafka_settings, tmp_path, HOST="::1", **secrets)
    started.url = f"http://[::1]:{started.port}"
    async with started:
        await started.wait_until_ready()
        assert await started.end() == 0


async def test_a_misspelled_variable_causes_a_warning(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    async with Service("exporter", kafka_settings, tmp_path, EXPORTER_SHARDS="1/1") as exporter:
        async with asyncio.timeout(30):
            while "unknown variables" not in exporter.log():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (line,) = [line for line in exporter.log().splitlines() if "unknown variables" in line]
        assert "EXPORTER_SHARDS (EXPORTER_SHARD?)" in line
        assert '"level":"warning"' in line


async def test_workers_that_fail_at_once_are_not_restarted_forever(
    kafka_settings: KafkaSettings, tmp_path: Path, bench: Bench
) -> None:
    """Each worker fails to import a module on its path, as after a broken upgrade."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "uvloop.py").write_text("raise MemoryError\n", encoding="ascii")
    files = tmp_path / "tmp"
    files.mkdir()
    extra = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": bench.good["SIGNING_KEYS_DIR"]}
    extra |= {"PYTHONPATH": str(broken), "TMPDIR": str(files)}
    async with Service(WORKERS, kafka_settings, tmp_path, **extra) as service:
        assert await service.ended(120) == 2
        (line,) = service.faults()
        assert "--workers 2: each of 5 starts of a worker ended" in line
        assert list(files.iterdir()) == []
