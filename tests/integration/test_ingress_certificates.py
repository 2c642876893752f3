"""Client certificates through the proxies of two ingress controllers, with a real gateway."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.config.settings import KafkaSettings, Secret
from tests.ingress.installation import Installation, installation
from tests.ingress.running import NGINX_FIRST
from tests.integration.gateways import ADMIN, register
from tests.integration.processes import CA_PEM
from tests.integration.test_client_certificates import VERSIONS, Agent
from tests.unit.gateway.client_certificates import forged, header_of, nginx_header_of
from tests.unit.gateway.csrs import csr
from tobogganing.devstack.certificate import self_signed_ca

KEY = ec.generate_private_key(ec.SECP256R1())
PATH = "/api/v1/clients/c/metrics"
BODY = b'{"metrics":{"bytes_sent":1}}'
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("controller", NGINX_FIRST)
async def test_certificates_through_an_ingress(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, controller: str
) -> None:
    async with installation(controller, kafka_settings, tmp_path, signing_keys) as site:
        node = await _registered(site)
        await _a_certificate_opens_its_own_path(site, node["certificate"])
        await _nobody_can_set_the_header(site, node["certificate"])
        await _invalid_certificates_open_nothing(site, node)
        await _an_old_certificate_opens_nothing_of_a_successor(site, node["certificate"])


async def _registered(site: Installation) -> dict[str, str]:
    answer = await register(
        site.gateways[0], "clients", name="n", type="native", client_id="c", csr=csr(KEY)
    )
    assert answer.status_code == 200, answer.text
    node: dict[str, str] = answer.json()
    return node


def _agent(
    site: Installation,
    certificate: str | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Agent:
    tls = site.tls()
    tls.minimum_version = tls.maximum_version = version
    if certificate is not None:
        key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        file = site.folder / "client.pem"
        file.write_text(certificate + key)
        tls.load_cert_chain(file)
    return Agent(site.ports.https, tls)


async def _a_certificate_opens_its_own_path(site: Installation, certificate: str) -> None:
    for version in VERSIONS:
        agent, stranger = _agent(site, certificate, version), _agent(site, None, version)
        for _ in range(3):  # a resumed session has the certificate, too
            assert await agent.submit() == 200
            assert await stranger.submit() == 401
        assert await agent.submit("/api/v1/clients/other/metrics") == 401
        # A bearer credential counts before the certificate.
        assert await agent.submit(Authorization="Bearer wrong") == 401


async def _nobody_can_set_the_header(site: Installation, certificate: str) -> None:
    (value,), (escaped,) = header_of(certificate).values(), nginx_header_of(certificate).values()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for name in ("Client-Cert", "client-cert", "CLIENT-CERT", "Client_Cert", "Client-Cert "):
        for lines in (
            f"{name}: {value}\r\n",
            f"{name}: {escaped}\r\n",
            f"{name}: {value}\r\n{name}: {value}\r\n",
            f"{name}: {value}\r\nConnection: close, {name.strip()}\r\n",
            f"X: 1\r\n {name}: {value}\r\n",
            f"X: 1\n{name}: {value}\r\n",
        ):
            raw = f"{head}{lines}Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
            answer = await site.raw(raw.encode() + BODY)
            assert answer.split(b" ", 2)[1] in (b"400", b"401"), (name, lines, answer)
    stranger = _agent(site)
    for forgery in (value, escaped):
        assert await stranger.submit(**{"Client-Cert": forgery}) == 401
        # HTTP/2
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--noproxy", "*", "--cacert", str(site.folder / "edge.pem")),
            *("-H", f"client-cert: {forgery}", "-H", f"Client-Cert: {forgery}"),
            *("-H", "Content-Type: application/json", "-d", BODY.decode(), "-o", "/dev/null"),
            *("-w", "%{http_version} %{http_code}", f"https://localhost:{site.ports.https}{PATH}"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await curl.communicate()
        assert said.decode() == "2 401"
    async with httpx.AsyncClient(base_url=f"http://localhost:{site.ports.http}") as plain:
        headers = {"Client-Cert": value, "Content-Type": "application/json"}
        redirected = await plain.post(PATH, content=BODY, headers=headers)
        assert redirected.status_code in (302, 308)
    # With a certificate, the proxy's own header takes the place of what a client sends.
    assert await _agent(site, certificate).submit(**{"Client-Cert": ":eA==:"}) == 200


async def _invalid_certificates_open_nothing(site: Installation, node: dict[str, str]) -> None:
    """Unlike deploy/edge, these proxies refuse them altogether: with an alert, or with 400."""
    issued = x509.load_pem_x509_certificate(node["certificate"].encode())
    found = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = found.get_values_for_type(x509.UniformResourceIdentifier)
    ours, foreign = Secret(CA_PEM), Secret(self_signed_ca(datetime.now(UTC)))
    for certificate in (
        forged(ours, names, valid_from=-2 * HOUR, valid_for=HOUR, key=KEY),
        forged(ours, names, valid_from=HOUR, key=KEY),
        forged(foreign, names, key=KEY),
    ):
        pem = certificate.public_bytes(Encoding.PEM).decode()
        for headers in ({}, {"Authorization": f"Bearer {node['api_key']}"}):
            try:
                status = await _agent(site, pem).submit(**headers)
            except OSError:
                continue
            assert status == 400
    key = {"Authorization": f"Bearer {node['api_key']}"}
    assert await _agent(site).submit(**key) == 200


async def _an_old_certificate_opens_nothing_of_a_successor(
    site: Installation, certificate: str
) -> None:
    agent = _agent(site, certificate)
    assert await agent.submit() == 200
    answer = await site.gateways[0].http.delete("/api/v1/clients/c", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    assert await agent.submit() == 401
    successor = await _registered(site)
    assert await agent.submit() == 401
    assert await _agent(site, successor["certificate"]).submit() == 200
