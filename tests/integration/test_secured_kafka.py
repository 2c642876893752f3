"""A Kafka with TLS and passwords: every service connects, but not without the password."""

import datetime
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from service.config.settings import KafkaSettings, Secret
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.integration.secured_broker import PASSWORD, USER, secured_broker
from tests.integration.test_serve import register_client
from tobogganing.devstack.install import Install


def certificate(folder: Path) -> tuple[Path, Path]:
    """Create a server certificate for 127.0.0.1: (key with certificate, certificate), in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    store, trusted = folder / "server.pem", folder / "trusted.pem"
    store.write_bytes(private + made)
    trusted.write_bytes(made)
    return store, trusted


@pytest.fixture
async def secured(kafka_install: Install, tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    """Settings of a broker with a SASL_SSL listener."""
    store, trusted = certificate(tmp_path)
    properties = {
        "listener.name.users.ssl.keystore.type": "PEM",
        "listener.name.users.ssl.keystore.location": str(store),
    }
    async with secured_broker(tmp_path / "kafka", kafka_install, properties, "SASL_SSL") as broker:
        yield KafkaSettings(
            kafka_bootstrap_servers=broker.users,
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_username=USER,
            kafka_sasl_password=Secret(PASSWORD),
            kafka_ssl_cafile=str(trusted),
        )


def environment(settings: KafkaSettings) -> dict[str, str]:
    assert settings.kafka_sasl_password is not None
    return {
        "KAFKA_SECURITY_PROTOCOL": settings.kafka_security_protocol,
        "KAFKA_SASL_USERNAME": str(settings.kafka_sasl_username),
        "KAFKA_SASL_PASSWORD": settings.kafka_sasl_password.reveal(),
        "KAFKA_SSL_CAFILE": str(settings.kafka_ssl_cafile),
    }


async def test_every_service_connects_to_a_secured_kafka(
    secured: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    own = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys}
    async with (
        Service("processor", secured, tmp_path, **environment(secured)) as processor,
        Service("tobogganing.manager", secured, tmp_path, **environment(secured), **own) as manager,
    ):
        await processor.wait_until_ready()
        await manager.wait_until_ready()
        credential = await register_client(manager, "c")
        response = await manager.http.post(
            "/api/v1/clients/c/metrics", json={"metrics": {"bytes_sent": 7}}, headers=credential
        )
        assert response.status_code == 200, response.text
        text = (await manager.scrape(response.json()["receipt"])).text
        assert 'tobogganing_client_bytes_sent{client_id="c"' in text
        logs = processor.log() + manager.log()
    assert PASSWORD not in logs


async def test_no_service_connects_without_the_password(
    secured: KafkaSettings, tmp_path: Path
) -> None:
    wrong = replace(secured, kafka_sasl_password=Secret("another"))
    async with Service("exporter", wrong, tmp_path, **environment(wrong)) as exporter:
        not_ready = await exporter.until("/-/ready", 503)
        assert "kafka" in not_ready.json()["waiting_for"]
        async with Service("exporter", secured, tmp_path, **environment(secured)) as right:
            await right.wait_until_ready()
        assert (await exporter.http.get("/-/ready")).status_code == 503
