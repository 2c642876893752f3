"""Certificates from two gateways with one CA, and their use in TLS."""

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.audit import decode_audit
from service.config.settings import KafkaSettings
from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.integration.gateways import ADMIN, gateway, register
from tests.integration.processes import CA_PEM, Service


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def request_of(folder: Path, name: str) -> str:
    """Create a private key and a request with openssl, as a node does."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
    openssl(folder, "req", "-new", *key, *files, "-subj", "/CN=whoever")
    return (folder / f"{name}.csr").read_text()


async def generate(service: Service, credential: str, **body: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {credential}"}
    return await service.http.post("/api/v1/certs/generate", json=body, headers=headers)


async def registered_pair(
    services: tuple[Service, Service], folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A headend and a client that got their certificates when they were registered."""
    first, second = services
    place = {"name": "C", "region": "eu", "datacenter": "d", "headend_url": "https://localhost:1"}
    await register(first, "clusters", cluster_id="k", **place)
    body = {"name": "H", "cluster_id": "k", "headend_id": "h", "csr": request_of(folder, "h")}
    headend = await register(second, "headends", **body)
    body = {"name": "C", "type": "native", "client_id": "c", "csr": request_of(folder, "c")}
    client = await register(first, "clients", **body)
    for name, answer in (("h", headend), ("c", client)):
        assert answer.status_code == 200, answer.text
        (folder / f"{name}.pem").write_text(answer.json()["certificate"])
        (folder / "ca.pem").write_text(answer.json()["ca_certificate"])
    return headend.json(), client.json()


async def test_a_client_and_a_headend_use_their_certificates_for_mutual_tls(
    pair: tuple[Service, Service], tmp_path: Path
) -> None:
    """Mutual TLS with only the issued certificates."""
    await registered_pair(pair, tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    server.load_cert_chain(tmp_path / "h.pem", tmp_path / "h.key")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    client.load_cert_chain(tmp_path / "c.pem", tmp_path / "c.key")
    seen: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert")["subjectAltName"])
        writer.write(b"welcome\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname="localhost"
        )
        assert await reader.readline() == b"welcome\n"
        writer.close()
        assert [names[0] for names in seen] == [("URI", "urn:tobogganing:client:c")]
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname="other.example.com"
            )


async def test_a_node_renews_its_certificate_at_any_gateway(
    pair: tuple[Service, Service], tmp_path: Path
) -> None:
    headend, client = await registered_pair(pair, tmp_path)
    csr = request_of(tmp_path, "new")
    answers = {
        "client": [
            await generate(service, client["api_key"], node_type="client", node_id="c", csr=csr)
            for service in pair
        ]
    }
    token = await pair[0].http.post(
        "/api/v1/auth/token",
        json={"node_type": "headend", "node_id": "h", "api_key": headend["api_key"]},
    )
    answers["headend"] = [
        await generate(service, credential, node_type="headend", node_id="h", csr=csr)
        for service, credential in zip(
            pair, (token.json()["access_token"], headend["api_key"]), strict=True
        )
    ]
    for kind, given in answers.items():
        for answer in given:
            assert answer.status_code == 200, answer.text
            (tmp_path / f"{kind}.pem").write_text(answer.json()["certificate"])
            openssl(tmp_path, "verify", "-x509_strict", "-CAfile", "ca.pem", f"{kind}.pem")
    for service in pair:
        answer = await service.http.get("/api/v1/certs/ca")
        assert answer.json()["ca_certificate"] == (tmp_path / "ca.pem").read_text()
    issued = {"client": 0.0, "headend": 0.0}
    for service in pair:
        for line in (await service.scrape()).text.splitlines():
            for kind in issued:
                if line.startswith(f'tobogganing_manager_certificates_issued_total{{type="{kind}"'):
                    issued[kind] += float(line.rsplit(" ", 1)[1])
    assert issued == {"client": 3, "headend": 3}


async def test_every_certificate_is_audited_with_its_serial_number(
    pair: tuple[Service, Service], kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    _, client = await registered_pair(pair, tmp_path)
    for service in pair:
        csr = request_of(tmp_path, "new")
        await generate(service, client["api_key"], node_type="client", node_id="c", csr=csr)
    records: list[Any] = []

    def take(_: int, batch: Any) -> None:
        records.extend(decode_audit(record.value) for record in batch)

    async with TopicReader(kafka_settings, topics_from(kafka_settings).audit.name, [0]) as reader:
        await reader.read_to_end(take, {})
    told = [(each.action, each.actor, each.target) for each in records if "serial" in each.details]
    assert sorted(told) == [
        ("issue-certificate", "client:c", "client:c"),
        ("issue-certificate", "client:c", "client:c"),
        ("register", "admin", "client:c"),
        ("register", "admin", "headend:h"),
    ]
    shown = openssl(tmp_path, "x509", "-in", "c.pem", "-noout", "-serial")
    serial = int(shown.strip().partition("=")[2], 16)
    assert serial in {int(each.details["serial"], 16) for each in records if each.details}


async def test_no_certificate_is_issued_after_a_rotation_or_removal(
    pair: tuple[Service, Service], tmp_path: Path
) -> None:
    _, client = await registered_pair(pair, tmp_path)
    asked = {"node_type": "client", "node_id": "c", "csr": request_of(tmp_path, "new")}
    here, there = pair
    answer = await here.http.post("/api/v1/clients/c/rotate-key", headers=ADMIN)
    assert (await generate(there, client["api_key"], **asked)).status_code == 401
    new = answer.json()["new_api_key"]
    assert (await generate(there, new, **asked)).status_code == 200
    await here.http.delete("/api/v1/clients/c", headers=ADMIN)
    assert (await generate(there, new, **asked)).status_code == 401


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        ("rubbish", "no PEM block"),
        (CA_PEM[: CA_PEM.index("-----BEGIN CERT")], "it contains: PRIVATE KEY"),
        (CA_PEM + CA_PEM, "it contains: PRIVATE KEY, CERTIFICATE, PRIVATE KEY, CERTIFICATE"),
    ],
)
async def test_an_invalid_ca_prevents_start_up(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str, pem: str, why: str
) -> None:
    async with gateway(kafka_settings, tmp_path, signing_keys, CA_PEM=pem) as service:
        assert await service.ended(30) == 2
        assert service.log().startswith("CA_PEM must contain one certificate")
        assert why in service.log()
        assert "-----" not in service.log()


async def test_the_ca_may_be_in_a_file_or_missing(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    (tmp_path / "authority").write_text(CA_PEM)
    files = {"CA_PEM": "", "CA_PEM_FILE": str(tmp_path / "authority")}
    async with gateway(kafka_settings, tmp_path, signing_keys, **files) as service:
        await service.until("/api/v1/certs/ca", 200)
    async with gateway(kafka_settings, tmp_path, signing_keys, CA_PEM="") as service:
        answer = await service.until("/api/v1/certs/ca", 501)
        assert "CA_PEM_FILE" in answer.json()["error"]
