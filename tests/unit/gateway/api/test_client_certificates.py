"""Client certificates as credentials: what they give access to, and what they do not."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from contract.registry import encode_record
from gateway.auth import client_certificates
from gateway.auth.ca import CertificateAuthority
from gateway.settings import GatewaySettings
from service.config.networks import Networks
from service.config.settings import Secret, SettingsError, load_settings
from tests.unit.gateway.api.test_certificates import CSR, bearer, client, headend, token
from tests.unit.gateway.client_certificates import forged, header_of, nginx_header_of
from tests.unit.gateway.conftest import Api, InMemoryTopic, running_api
from tobogganing.devstack.certificate import self_signed_ca

METRICS = {"metrics": {"bytes_sent": 1}}
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def earlier_ca() -> Secret:
    return Secret(self_signed_ca(datetime.now(UTC)))


@pytest.fixture(scope="module")
def foreign_ca() -> Secret:
    """Another CA with the same name."""
    return Secret(self_signed_ca(datetime.now(UTC)))


@pytest.fixture
def mtls(settings: GatewaySettings, earlier_ca: Secret) -> GatewaySettings:
    return replace(
        settings,
        mtls="on",
        trusted_proxies=Networks("127.0.0.1"),
        ca_previous_pem=earlier_ca,
    )


@pytest.fixture
async def api(
    mtls: GatewaySettings, registry_topic: InMemoryTopic, tmp_path: Path
) -> AsyncIterator[Api]:
    async with running_api(mtls, registry_topic, tmp_path, "socket") as api:
        yield api


async def submit(
    api: Api, headers: dict[str, str] | list[tuple[str, str]], path: str = "clients/c-1"
) -> httpx.Response:
    return await api.http.post(f"/api/v1/{path}/metrics", json=METRICS, headers=headers)


async def certificate_of(api: Api, **body: Any) -> str:
    return str((await client(api, csr=CSR, **body))["certificate"])


def attempts(api: Api, result: str = "success") -> float:
    name = "tobogganing_manager_auth_attempts_total"
    return api.sample(name, type="certificate", result=result)


def urns(api: Api, kind: str = "client", id: str = "c-1", *, epoch: int = 0) -> list[str]:
    """The names that a certificate of the present registration has."""
    record = api.registry.get(kind, id)
    assert record is not None
    return [
        f"urn:tobogganing:{kind}:{id}",
        f"urn:tobogganing:registration:{record.incarnation}.{epoch}",
    ]


@pytest.mark.parametrize("form", [header_of, nginx_header_of])
async def test_a_client_submits_with_its_certificate_and_nothing_else(api: Api, form: Any) -> None:
    headers = form(await certificate_of(api))
    for count in (1, 2):  # the second is cached
        assert (await submit(api, headers)).status_code == 200
        assert attempts(api) == count
    # A compressed body takes the normal path, with a check before and after the body.
    answer = await submit(api, headers | {"Content-Type": "application/json; charset=utf-8"})
    assert answer.status_code == 200, answer.text
    assert attempts(api) == 3
    assert [frame.submissions for _, frame in api.submissions.frames if frame.submissions]


async def test_a_headend_submits_with_its_certificate(api: Api) -> None:
    node = await headend(api, csr=CSR)
    headers = header_of(node["certificate"])
    assert (await submit(api, headers, "headends/h-1")).status_code == 200
    assert (await submit(api, headers, "clients/h-1")).status_code == 401


async def test_a_node_renews_its_certificate_with_the_certificate(api: Api) -> None:
    body = {"node_type": "client", "node_id": "c-1", "csr": CSR}
    headers = header_of(await certificate_of(api))
    answer = await api.http.post("/api/v1/certs/generate", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (await submit(api, header_of(answer.json()["certificate"]))).status_code == 200
    await client(api, "c-2")
    other = body | {"node_id": "c-2"}
    answer = await api.http.post("/api/v1/certs/generate", json=other, headers=headers)
    assert answer.status_code == 401


async def test_a_certificate_opens_nothing_else(api: Api) -> None:
    headers = header_of(await certificate_of(api))
    for method, path in [
        ("POST", "/api/v1/clients/c-1/rotate-key"),
        ("GET", "/api/v1/clients/c-1"),
        ("DELETE", "/api/v1/clients/c-1"),
        ("POST", "/api/v1/clients/register"),
        ("POST", "/api/v1/metrics"),
        ("POST", "/api/v1/enrol"),
        ("POST", "/api/v1/auth/revoke"),
    ]:
        answer = await api.http.request(method, path, json={}, headers=headers)
        assert answer.status_code == 401, (method, path, answer.text)


async def test_a_token_gets_no_certificate_that_would_outlive_it(api: Api) -> None:
    node = await headend(api)
    body = {"node_type": "headend", "node_id": "h-1", "csr": CSR}
    for credential, status in [
        (await token(api, "headend", "h-1", node["api_key"]), 401),
        (node["api_key"], 200),
    ]:
        answer = await api.http.post(
            "/api/v1/certs/generate", json=body, headers=bearer(credential)
        )
        assert answer.status_code == status, answer.text


async def test_an_old_certificate_opens_nothing_of_a_successor(api: Api) -> None:
    headers = header_of(await certificate_of(api))
    assert (await submit(api, headers)).status_code == 200
    await api.http.delete("/api/v1/clients/c-1", headers=bearer("admin"))
    assert (await submit(api, headers)).status_code == 401
    new = header_of(await certificate_of(api))
    assert (await submit(api, headers)).status_code == 401
    assert (await submit(api, new)).status_code == 200
    assert attempts(api, "failure") == 2


@pytest.mark.parametrize("how", ["revoke", "rotate"])
async def test_certificates_end_with_the_nodes_tokens(api: Api, how: str) -> None:
    headers = header_of(await certificate_of(api))
    assert (await submit(api, headers)).status_code == 200
    if how == "revoke":
        body = {"node_type": "client", "node_id": "c-1"}
        answer = await api.http.post("/api/v1/auth/revoke", json=body, headers=bearer("admin"))
    else:
        answer = await api.http.post("/api/v1/clients/c-1/rotate-key", headers=bearer("admin"))
    assert answer.status_code == 200, answer.text
    assert (await submit(api, headers)).status_code == 401
    body = {"node_type": "client", "node_id": "c-1", "csr": CSR}
    answer = await api.http.post("/api/v1/certs/generate", json=body, headers=headers)
    assert answer.status_code == 401
    answer = await api.http.post("/api/v1/certs/generate", json=body, headers=bearer("admin"))
    assert (await submit(api, header_of(answer.json()["certificate"]))).status_code == 200


async def test_a_rotation_with_an_overlap_ends_no_certificate(api: Api) -> None:
    headers = header_of(await certificate_of(api))
    body = {"overlap_seconds": 60}
    await api.http.post("/api/v1/clients/c-1/rotate-key", json=body, headers=bearer("admin"))
    assert (await submit(api, headers)).status_code == 200


async def test_a_certificate_of_another_node_or_kind_is_refused(api: Api) -> None:
    headers = header_of(await certificate_of(api))
    await client(api, "c-2")
    await headend(api)
    for path in ("clients/c-2", "headends/h-1", "headends/c-1", "clients/nobody"):
        assert (await submit(api, headers, path)).status_code == 401, path


async def test_a_certificate_that_names_no_registration_of_now_is_refused(
    api: Api, ca_pem: Secret, foreign_ca: Secret, earlier_ca: Secret
) -> None:
    """The CA has signed each of them, except the foreign one's."""
    await certificate_of(api)
    node, registration = urns(api)
    incarnation = registration.rpartition(":")[2].partition(".")[0]
    for ca, status in [(ca_pem, 200), (earlier_ca, 200), (foreign_ca, 401)]:
        answer = await submit(api, header_of(forged(ca, [node, registration])))
        assert answer.status_code == status
    for wrong in [
        [],
        [node],  # issued before certificates were credentials
        [registration],
        [registration, node],
        [node, node, registration],
        [node, registration, registration],
        [node, registration, "urn:x:y"],
        [node, f"urn:tobogganing:registration:{int(incarnation) - 1}.0"],
        [node, f"urn:tobogganing:registration:{int(incarnation) + 1}.0"],
        [node, f"urn:tobogganing:registration:{incarnation}.1"],
        [node, f"urn:tobogganing:registration:{incarnation}"],
        [node, f"urn:tobogganing:registration:+{incarnation}.0"],
        ["urn:tobogganing:relay:c-1", registration],
        ["urn:tobogganing:enrolment:c-1", registration],
        ["urn:tobogganing:headend:c-1", registration],
        [f"{node}\n", registration],
    ]:
        answer = await submit(api, header_of(forged(ca_pem, wrong)))
        assert answer.status_code == 401, wrong


async def test_time_and_use_of_a_certificate_count(api: Api, ca_pem: Secret) -> None:
    await certificate_of(api)
    names = urns(api)
    for more, status in [
        ({"valid_from": -HOUR, "valid_for": HOUR - timedelta(seconds=60)}, 401),
        ({"valid_from": HOUR}, 401),
        ({"valid_from": -HOUR, "valid_for": 2 * HOUR}, 200),
        ({"usages": ()}, 401),
        ({"usages": (ExtendedKeyUsageOID.SERVER_AUTH,)}, 401),
    ]:
        answer = await submit(api, header_of(forged(ca_pem, names, **more)))  # type: ignore[arg-type]
        assert answer.status_code == status, more


async def test_the_cas_own_certificate_is_nobodys(api: Api, ca_pem: Secret) -> None:
    await certificate_of(api)
    ca = x509.load_pem_x509_certificate(ca_pem.reveal().encode())
    assert (await submit(api, header_of(ca))).status_code == 401


async def test_exactly_one_header_and_one_certificate_is_believed(api: Api) -> None:
    pem = await certificate_of(api)
    ((name, value),) = header_of(pem).items()
    other = header_of(await certificate_of(api, id="c-2"))[name]
    ((_, escaped),) = nginx_header_of(pem).items()
    for headers in [
        [(name, value), (name, value)],
        [(name, other), (name, value)],
        [(name, f"{value}, {value}")],
        [(name, f"{value};a=1")],
        [(name, value.strip(":"))],
        [(name, value[:-9] + ":")],
        [(name, f":{value[1:-1]} :")],
        [(name, escaped + escaped)],
        [(name, "")],
        [(name, "::")],
        [(name, ":" + "A" * 9000 + ":")],
        [(name, "-----BEGIN")],
        [("Client_Cert", value)],
        [("X-Client-Cert", value)],
        [("Client-Cert-Chain", value)],
        [("Cookie", f"{name}={value}")],
        # A bearer credential takes precedence over the certificate.
        [(name, value), ("Authorization", "Bearer wrong")],
        [(name, value), ("Authorization", "Basic eDp4")],
        [(name, value), ("Authorization", "")],
    ]:
        assert (await submit(api, headers)).status_code == 401, headers
    assert (await submit(api, [(name, value)])).status_code == 200
    assert (await submit(api, [(name.upper(), value)])).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
async def test_a_proxy_may_say_that_there_is_no_certificate(api: Api, content_type: str) -> None:
    """As HAProxy does, where the header is set without a condition."""
    await certificate_of(api)
    headers = {"Client-Cert": "::", "Content-Type": content_type}
    assert (await submit(api, headers)).status_code == 401
    assert attempts(api, "failure") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"trusted_proxies": Networks("127.0.0.2, 10.0.0.0/8")},
        {"trusted_proxies": Networks()},
        {"mtls": "off"},
    ],
)
async def test_nobody_but_a_trusted_proxy_is_believed(
    mtls: GatewaySettings, registry_topic: InMemoryTopic, tmp_path: Path, change: dict[str, Any]
) -> None:
    settings = replace(mtls, **change)
    async with running_api(settings, registry_topic, tmp_path, "socket") as api:
        headers = header_of(await certificate_of(api))
        assert (await submit(api, headers)).status_code == 401
        # The sender is the peer of the connection, whatever the request says.
        headers |= {"X-Forwarded-For": "127.0.0.2", "Forwarded": "for=127.0.0.2"}
        assert (await submit(api, headers)).status_code == 401
        assert (await submit(api, headers | {"Content-Type": "text/plain"})).status_code == 401


async def test_the_cache_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_certificates, "CACHE_SIZE", 2)
    read: list[bytes] = []
    decode = client_certificates.decode_header

    def counting(header: bytes) -> bytes:
        read.append(header)
        return decode(header)

    monkeypatch.setattr(client_certificates, "decode_header", counting)
    headers = {id: header_of(await certificate_of(api, id=id)) for id in ("a", "b", "c")}
    for id in ("a", "b", "a", "b", "c", "b", "a"):
        assert (await submit(api, headers[id], f"clients/{id}")).status_code == 200
    assert len(read) == 4  # each once, and the evicted one again


async def test_a_registration_known_only_elsewhere_is_read_first(api: Api, ca_pem: Secret) -> None:
    """The certificate of a registration that this gateway has not read yet."""
    await certificate_of(api)
    record = api.registry.get("client", "c-1")
    assert record is not None
    revoked = msgspec.structs.replace(record, revision=2, token_epoch=1)
    names = urns(api, epoch=1)
    api.topic.at_once = False
    await api.topic.send("registry", encode_record(revoked), partition=0, key=record.key)
    assert (await submit(api, header_of(forged(ca_pem, names)))).status_code == 200
    api.registry_is_away = True
    assert (await submit(api, header_of(forged(ca_pem, urns(api, epoch=2))))).status_code == 503


def loaded(**environ: str) -> GatewaySettings:
    required = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "METRICS_TOKEN": "m" * 16,
        "ADMIN_TOKEN": "a" * 16,
        "SIGNING_KEYS_DIR": "/",
        "MTLS": "on",
        "CA_PEM": "x",
        "TRUSTED_PROXIES": "10.0.0.7, fd00::/8",
    }
    return load_settings(GatewaySettings, required | environ)


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"CA_PEM": ""}, "CA_PEM .* MTLS=on needs it"),
        ({"TRUSTED_PROXIES": ""}, "TRUSTED_PROXIES is not set: MTLS=on"),
        ({"TRUSTED_PROXIES": "10.0.0.7,0.0.0.0/0"}, "TRUSTED_PROXIES=0.0.0.0/0 must not be"),
        ({"TRUSTED_PROXIES": "::/0"}, "TRUSTED_PROXIES=::/0 must not be"),
        ({"MTLS": "yes"}, "MTLS='yes' is not valid"),
    ],
)
def test_certificates_are_not_believed_from_everybody(environ: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        loaded(**environ)
    assert loaded().is_mtls
    assert not loaded(**environ | {"MTLS": "off", "CA_PEM": "x"}).is_mtls


def test_an_earlier_ca_must_be_one(ca_pem: Secret) -> None:
    ca = CertificateAuthority(ca_pem, HOUR, datetime.now(UTC))
    assert len(ca.issuers(None)) == 1
    assert len(ca.issuers(ca_pem)) == 2
    leaf = forged(ca_pem, []).public_bytes(Encoding.PEM).decode()
    for pem, fault in [("rubbish", "cannot be read"), (leaf, "not a CA certificate")]:
        with pytest.raises(SettingsError, match=f"CA_PREVIOUS_PEM.*{fault}"):
            ca.issuers(Secret(pem))
