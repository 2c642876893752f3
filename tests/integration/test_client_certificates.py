"""Client certificates from end to end: a gateway on a real Kafka behind the edge's own HAProxy.

A client is Python's ssl module, so that a test decides when a TLS session is resumed.
"""

import asyncio
import base64
import http.client
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from service.config.settings import KafkaSettings, Secret
from tests.deploy.agents import Machine
from tests.edge import EdgePorts, edge
from tests.integration.gateways import ADMIN, gateway, register
from tests.integration.processes import CA_PEM, Service
from tests.unit.gateway.client_certificates import forged, header_of
from tests.unit.gateway.csrs import csr
from tobogganing.devstack.certificate import certificates_in, self_signed_ca

AGENT = Path(__file__).parents[2] / "examples" / "python" / "submit_metrics.py"
BODY = b'{"metrics":{"bytes_sent":1}}'
PATH = "/api/v1/clients/c/metrics"
KEY = ec.generate_private_key(ec.SECP256R1())
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
HOUR = timedelta(hours=1)


@dataclass
class Site:
    """A gateway, and the edge before it."""

    service: Service
    ports: EdgePorts
    folder: Path

    async def client(self, id: str = "c") -> dict[str, str]:
        """Register a client with a certificate for KEY."""
        answer = await register(
            self.service, "clients", name="n", type="native", client_id=id, csr=csr(KEY)
        )
        assert answer.status_code == 200, answer.text
        registered: dict[str, str] = answer.json()
        return registered

    def agent(
        self,
        certificate: x509.Certificate | str | None = None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> "Agent":
        tls = ssl.create_default_context(cafile=self.folder / "edge.pem")
        tls.minimum_version = tls.maximum_version = version
        if certificate is not None:
            if not isinstance(certificate, str):
                certificate = certificate.public_bytes(Encoding.PEM).decode()
            key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            file = self.folder / "client.pem"
            file.write_text(certificate + key)
            tls.load_cert_chain(file)
        return Agent(self.ports.https, tls)


class Agent:
    """Submits, each time on a new connection that resumes the TLS session of the last one."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._port = port
        self._tls = tls
        self.session: ssl.SSLSession | None = None
        self.was_resumed = False

    async def submit(self, path: str = PATH, **headers: str) -> int:
        return await asyncio.to_thread(self._submit, path, headers)

    def _submit(self, path: str, headers: dict[str, str]) -> int:
        connection = http.client.HTTPSConnection("localhost", self._port, timeout=20)
        http.client.HTTPConnection.connect(connection)
        assert connection.sock is not None
        connection.sock = tls = self._tls.wrap_socket(
            connection.sock, server_hostname="localhost", session=self.session
        )
        connection.request("POST", path, BODY, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        answer.read()
        self.session, self.was_resumed = tls.session, bool(tls.session_reused)
        connection.close()
        return answer.status


@pytest.fixture
async def site(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Site]:
    (tmp_path / "ca.pem").write_text(certificates_in(CA_PEM))
    settings = {"MTLS": "on", "TRUSTED_PROXIES": "127.0.0.1"}
    async with gateway(kafka_settings, tmp_path, signing_keys, **settings) as service:
        await service.wait_until_ready()
        mtls = {"MTLS": "on", "EDGE_CLIENT_CA": str(tmp_path / "ca.pem")}
        async with edge(tmp_path, service.port, EDGE_TLS_MIN="TLSv1.2", **mtls) as ports:
            site = Site(service, ports, tmp_path)
            async with (
                httpx.AsyncClient(trust_env=False) as client,
                asyncio.timeout(30),
            ):
                url = f"http://127.0.0.1:{ports.http}/-/ready"
                while (await client.get(url)).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            yield site


async def test_certificates_through_the_edge(site: Site) -> None:
    """One site for all of it: a broker, a gateway and an edge take seconds to start."""
    registered = await site.client()
    await _resumed_sessions_have_the_certificate(site, registered["certificate"])
    await _nobody_else_can_set_the_header(site, registered["certificate"])
    await _invalid_certificates_open_nothing(site, registered["api_key"])
    await _an_old_certificate_opens_nothing_of_a_successor(site, registered["certificate"])
    await _an_agent_enrols_submits_and_renews_without_a_key_on_its_disk(site)


async def _resumed_sessions_have_the_certificate(site: Site, certificate: str) -> None:
    for version in VERSIONS:
        agent, stranger = site.agent(certificate, version), site.agent(None, version)
        for is_resumed in (False, True, True):
            assert await agent.submit() == 200
            assert agent.was_resumed is is_resumed
            assert await stranger.submit() == 401
            assert stranger.was_resumed is is_resumed
        # A bearer credential counts before the certificate.
        assert await agent.submit(Authorization="Bearer wrong") == 401
        assert await agent.submit("/api/v1/clients/other/metrics") == 401


async def _nobody_else_can_set_the_header(site: Site, certificate: str) -> None:
    (value,) = header_of(certificate).values()
    stranger = site.agent()
    for name in ("Client-Cert", "client-cert", "CLIENT-CERT", "Client_Cert", "Client-Cert "):
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        for lines in (
            f"{name}: {value}\r\n",
            f"{name}: {value}\r\n{name}: {value}\r\n",
            f"{name}: {value}\r\nConnection: close, {name.strip()}\r\n",
            f"X: 1\r\n {name}: {value}\r\n",
            f"X: 1\n{name}: {value}\r\n",
        ):
            raw = f"{head}{lines}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
            reader, writer = await asyncio.open_connection("127.0.0.1", site.ports.http)
            writer.write(raw)
            async with asyncio.timeout(20):
                status = (await reader.readline()).split()[1]
            writer.close()
            assert status in (b"400", b"401"), (name, lines, status)
        if name.strip() == name:
            assert await stranger.submit(**{name: value}) == 401
    # HTTP/2, with and without a certificate of its own.
    for url in (
        f"https://localhost:{site.ports.https}{PATH}",
        f"http://localhost:{site.ports.http}{PATH}",
    ):
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--noproxy", "*", "--cacert", str(site.folder / "edge.pem")),
            *("-H", f"client-cert: {value}", "-H", f"Client-Cert: {value}"),
            *("-H", "Content-Type: application/json", "-d", BODY.decode(), "-o", "/dev/null"),
            *("-w", "%{http_version} %{http_code}", url),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await curl.communicate()
        assert said.decode() in ("2 401", "1.1 401")
    # With a certificate, the edge's own header takes the place of what a client sends.
    other = base64.b64encode(b"x").decode()
    agent = site.agent(certificate)
    assert await agent.submit(**{"Client-Cert": f":{other}:"}) == 200


async def _invalid_certificates_open_nothing(site: Site, api_key: str) -> None:
    names = _names_in((site.folder / "client.pem").read_text())
    ours, foreign = Secret(CA_PEM), Secret(self_signed_ca(datetime.now(UTC)))
    assert (
        await site.agent(
            forged(ours, names, valid_from=-HOUR, valid_for=2 * HOUR, key=KEY)
        ).submit()
        == 200
    )
    for certificate in (
        forged(ours, names, valid_from=-2 * HOUR, valid_for=HOUR, key=KEY),
        forged(ours, names, valid_from=HOUR, key=KEY),
        forged(foreign, names, key=KEY),
    ):
        agent = site.agent(certificate)
        for _ in range(2):  # a resumed session, too
            assert await agent.submit() == 401
        # The handshake has not failed, so the agent's key still works.
        assert await agent.submit(Authorization=f"Bearer {api_key}") == 200


async def _an_old_certificate_opens_nothing_of_a_successor(site: Site, certificate: str) -> None:
    agent = site.agent(certificate)
    assert await agent.submit() == 200
    answer = await site.service.http.delete("/api/v1/clients/c", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    assert await agent.submit() == 401
    successor = await site.client()
    assert await agent.submit() == 401
    assert agent.was_resumed
    assert await site.agent(successor["certificate"]).submit() == 200


async def _an_agent_enrols_submits_and_renews_without_a_key_on_its_disk(site: Site) -> None:
    folder = site.folder / "agent"
    machine = Machine(folder / "machine")
    key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (folder / "key.pem").write_text(key)
    (folder / "csr.pem").write_text(csr(KEY))
    body = {"name": "site", "kind": "client", "type": "native", "max_uses": 1}
    created = await site.service.http.post("/api/v1/enrolments", json=body, headers=ADMIN)
    (folder / "token").write_text(created.json()["token"])
    environ = {
        "PATH": "/usr/bin:/bin",
        "MANAGER_URL": f"https://localhost:{site.ports.https}",
        "SSL_CERT_FILE": str(site.folder / "edge.pem"),
        "CERTIFICATE_FILE": str(folder / "certificate.pem"),
        "PRIVATE_KEY_FILE": str(folder / "key.pem"),
        "CSR_FILE": str(folder / "csr.pem"),
        "ENROLMENT_TOKEN_FILE": str(folder / "token"),
        "QUEUE_DIR": str(folder / "queue"),
        "SYSTEM_ROOT": str(machine.root),
        "RENEW_CERTIFICATE_DAYS": "0.000000000001",  # at once, even after an enrolment
    }
    serials = []
    for turn in range(3):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, AGENT, "--once"), env=environ, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        (folder / "token").unlink(missing_ok=True)
        kept = (folder / "certificate.pem").read_text()
        serials.append(x509.load_pem_x509_certificate(kept.encode()).serial_number)
        assert b"renewed the certificate" in said, said.decode()
        assert (b"enrolled as client-" in said) is (turn == 0)
    assert len({*serials}) == 3
    assert (folder / "queue" / "sent").read_text() == "3\n"
    kept_files = {each.name for each in folder.iterdir() if each.is_file()}
    assert kept_files == {"key.pem", "csr.pem", "certificate.pem", "certificate.pem.id"}
    assert stat.S_IMODE((folder / "certificate.pem").stat().st_mode) == 0o600


def _names_in(pem: str) -> list[str]:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)
