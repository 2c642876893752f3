"""The certificate endpoints: authentication, the names in certificates, and the audit log."""

import datetime
import ipaddress
from typing import Any

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contract.audit import AuditRecord, decode_audit
from contract.registry import encode_record
from gateway.api import certificates
from gateway.api.certificates import host_of
from gateway.auth.ca import utc_datetime
from service.config.settings import Secret
from tests.unit.gateway.conftest import Api
from tests.unit.gateway.csrs import csr

KEY = ec.generate_private_key(ec.SECP256R1())
CSR = csr(KEY, "admin")
WEAK = csr(rsa.generate_private_key(public_exponent=65537, key_size=1024))


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def client(api: Api, id: str = "c-1", **body: Any) -> dict[str, Any]:
    return await api.register("clients", name="n", type="native", client_id=id, **body)


async def headend(api: Api, url: str | None = None, **body: Any) -> dict[str, Any]:
    place = {"name": "C", "region": "eu", "datacenter": "fra1", "headend_url": url}
    await api.register("clusters", cluster_id="k-1", **place)
    return await api.register("headends", name="H", cluster_id="k-1", headend_id="h-1", **body)


async def generate(
    api: Api, credential: str, node_type: str = "client", node_id: str = "c-1", csr: str = CSR
) -> httpx.Response:
    body = {"node_type": node_type, "node_id": node_id, "csr": csr}
    return await api.http.post("/api/v1/certs/generate", json=body, headers=bearer(credential))


async def token(api: Api, kind: str, id: str, api_key: str) -> str:
    body = {"node_type": kind, "node_id": id, "api_key": api_key}
    answer = await api.http.post("/api/v1/auth/token", json=body)
    return str(answer.json()["access_token"])


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The names, without the second, which is the registration's (test_client_certificates.py)."""
    first, registration, *others = certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value
    assert registration.value.startswith("urn:tobogganing:registration:")
    return [first, *others]


def audited(api: Api) -> list[AuditRecord]:
    return [decode_audit(record.value) for record in api.audit.records]


def urn(name: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(f"urn:tobogganing:{name}")


def issued(api: Api) -> tuple[float, float]:
    name = "tobogganing_manager_certificates_issued_total"
    return api.sample(name, type="client"), api.sample(name, type="headend")


@pytest.mark.parametrize("node_type", ["client", "client_native", "client_docker", "client_mobile"])
async def test_a_client_gets_a_certificate_with_its_api_key(api: Api, node_type: str) -> None:
    key = (await client(api))["api_key"]
    answer = await generate(api, key, node_type)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"certificate", "ca_certificate", "expires_at"}
    certificate = load(answer.json()["certificate"])
    certificate.verify_directly_issued_by(load(answer.json()["ca_certificate"]))
    assert certificate.public_key() == KEY.public_key()
    assert certificate.subject.rfc4514_string() == "CN=c-1,OU=client"
    assert names(certificate) == [urn("client:c-1")]
    ends = datetime.datetime.fromisoformat(answer.json()["expires_at"])
    assert ends == certificate.not_valid_after_utc
    days = (ends - datetime.datetime.now(datetime.UTC)) / datetime.timedelta(days=1)
    assert days == pytest.approx(90, abs=0.01)
    assert issued(api) == (1, 0)


async def test_a_headend_gets_a_certificate_with_its_api_key_or_token(api: Api) -> None:
    key = (await headend(api, "https://fra1.example.com:8443/x"))["api_key"]
    for credential in (key, await token(api, "headend", "h-1", key)):
        answer = await generate(api, credential, "headend", "h-1")
        assert answer.status_code == 200, answer.text
        certificate = load(answer.json()["certificate"])
        assert names(certificate) == [urn("headend:h-1"), x509.DNSName("fra1.example.com")]
    assert issued(api) == (0, 2)


async def test_the_admin_gets_a_certificate_for_any_registered_node(api: Api) -> None:
    await client(api)
    assert (await generate(api, "admin")).status_code == 200
    assert (await generate(api, "admin", "client", "c-2")).status_code == 404
    assert (await generate(api, "admin", "headend", "c-1")).status_code == 404
    assert issued(api) == (1, 0)
    await api.http.delete("/api/v1/clients/c-1", headers=bearer("admin"))
    assert (await generate(api, "admin")).status_code == 404


async def test_a_node_gets_no_certificate_of_another_node(api: Api) -> None:
    key = (await client(api))["api_key"]
    other = (await client(api, "c-2"))["api_key"]
    headends = (await headend(api))["api_key"]
    foreign = [
        await generate(api, other),
        await generate(api, headends),
        await generate(api, await token(api, "client", "c-2", other)),
        await generate(api, await token(api, "headend", "h-1", headends)),
        await generate(api, key, "headend", "h-1"),
        await generate(api, key, "client", "c-3"),
        await generate(api, "scrape"),
        await generate(api, "x"),
        await api.http.post(
            "/api/v1/certs/generate", json={"node_type": "client", "node_id": "c-1", "csr": CSR}
        ),
    ]
    for answer in foreign:
        assert (answer.status_code, answer.text) == (401, '{"error":"Unauthorized"}')
    assert issued(api) == (0, 0)
    assert not [record for record in audited(api) if record.action == "issue-certificate"]


async def test_an_api_key_replaced_at_another_gateway_gets_no_certificate(api: Api) -> None:
    """This gateway has not read the rotation yet, and must, because a certificate outlives a
    key."""
    key = (await client(api))["api_key"]
    api.topic.at_once = False
    base = api.registry.get("client", "c-1")
    assert base is not None
    other = msgspec.structs.replace(base, revision=base.revision + 1, api_keys=[])
    await api.topic.send("registry", encode_record(other), partition=0, key=other.key)
    assert (await generate(api, key)).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"csr": WEAK}, "csr"),
        ({"csr": CSR + CSR}, "csr"),
        ({"csr": "rubbish"}, "csr"),
        ({"csr": ""}, "csr"),
        ({"csr": "A" * 16_385}, "csr"),
        ({"csr": None}, "csr"),
        ({"csr": 1}, "csr"),
        ({"node_type": "cluster"}, "node_type"),
        ({"node_type": "relay"}, "node_type"),
        ({"node_id": "../c-1"}, "node_id"),
        ({"node_id": "c-1\n"}, "node_id"),
    ],
)
async def test_an_error_names_the_invalid_field(api: Api, body: dict[str, Any], field: str) -> None:
    key = (await client(api))["api_key"]
    whole = {"node_type": "client", "node_id": "c-1", "csr": CSR} | body
    answer = await api.http.post("/api/v1/certs/generate", json=whole, headers=bearer(key))
    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
    assert issued(api) == (0, 0)


async def test_the_ca_certificate_is_public(api: Api, ca_pem: Secret) -> None:
    answer = await api.http.get("/api/v1/certs/ca")
    assert answer.status_code == 200
    assert answer.json().keys() == {"ca_certificate"}
    assert load(answer.json()["ca_certificate"]).subject.rfc4514_string()
    assert answer.json()["ca_certificate"] in ca_pem.reveal()
    assert "PRIVATE" not in answer.text


async def test_a_registration_with_a_csr_returns_a_certificate(api: Api) -> None:
    registered = await client(api, csr=CSR)
    assert registered.keys() == {
        *("client_id", "api_key", "name", "type"),
        *("certificate", "ca_certificate", "expires_at"),
    }
    assert names(load(registered["certificate"])) == [urn("client:c-1")]
    node = await headend(api, "[2001:db8::1]:443", csr=CSR)
    address = x509.IPAddress(ipaddress.ip_address("2001:db8::1"))
    assert names(load(node["certificate"])) == [urn("headend:h-1"), address]
    assert issued(api) == (1, 1)
    assert (await client(api, "c-2")).keys() == {"client_id", "api_key", "name", "type"}


@pytest.mark.parametrize("bad", [WEAK, "rubbish", CSR + CSR])
async def test_an_invalid_csr_registers_nothing(api: Api, bad: str) -> None:
    await headend(api)
    written = len(api.topic.records), len(api.audit.records)
    bodies = {
        "clients": {"name": "n", "type": "native", "client_id": "c-9", "csr": bad},
        "headends": {"name": "n", "cluster_id": "k-1", "headend_id": "h-9", "csr": bad},
    }
    for collection, body in bodies.items():
        answer = await api.http.post(
            f"/api/v1/{collection}/register", json=body, headers=bearer("admin")
        )
        assert (answer.status_code, answer.json()["field"]) == (400, "csr"), answer.text
    assert (len(api.topic.records), len(api.audit.records)) == written
    assert issued(api) == (0, 0)


async def test_a_registration_conflict_returns_no_certificate(api: Api) -> None:
    await client(api)
    answer = await api.http.post(
        "/api/v1/clients/register",
        json={"name": "n", "type": "native", "client_id": "c-1", "csr": CSR},
        headers=bearer("admin"),
    )
    assert answer.status_code == 409
    assert "certificate" not in answer.json()
    assert issued(api) == (0, 0)


async def test_each_certificate_is_audited_before_it_is_returned(api: Api) -> None:
    registered = await client(api, csr=CSR)
    own = (await generate(api, registered["api_key"])).json()
    await generate(api, "admin")
    first, second, third = audited(api)
    for record, answer in ((first, registered), (second, own)):
        assert int(record.details["serial"], 16) == load(answer["certificate"]).serial_number
        assert record.details["expires_at"] == answer["expires_at"]
    assert (first.action, first.actor, first.target) == ("register", "admin", "client:c-1")
    told = [(each.action, each.actor, each.target) for each in (second, third)]
    assert told == [("issue-certificate", by, "client:c-1") for by in ("client:c-1", "admin")]
    api.audit.loses = True
    answer = await generate(api, registered["api_key"])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "certificate" not in answer.json()
    assert issued(api) == (3, 0)
    for text in [str(record.value) for record in api.audit.records]:
        assert "BEGIN" not in text
        assert registered["api_key"] not in text


@pytest.mark.parametrize("ca_pem", [None])
async def test_without_a_ca_the_error_names_the_setting(api: Api, ca_pem: None) -> None:
    registered = await client(api)
    answers = [
        await generate(api, registered["api_key"]),
        await api.http.get("/api/v1/certs/ca"),
        await api.http.post(
            "/api/v1/clients/register",
            json={"name": "n", "type": "native", "client_id": "c-2", "csr": CSR},
            headers=bearer("admin"),
        ),
    ]
    for answer in answers:
        assert answer.status_code == 501
        assert "CA_PEM" in answer.json()["error"]
    assert api.registry.get("client", "c-2") is None


async def test_an_expired_ca_signs_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = await client(api)
    monkeypatch.setattr(
        certificates, "utc_datetime", lambda now: utc_datetime(now + 11 * 366 * 86_400)
    )
    answer = await generate(api, registered["api_key"])
    assert answer.status_code == 501
    assert "the CA certificate is valid only from" in answer.json()["error"]
    assert issued(api) == (0, 0)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://Fra1.Example.com:8443/path?x#y", "fra1.example.com"),
        ("fra1.example.com", "fra1.example.com"),
        ("fra1.example.com:8443", "fra1.example.com"),
        ("https://fra1.example.com./", "fra1.example.com"),
        ("https://user:password@fra1.example.com", "fra1.example.com"),
        ("https://headend", "headend"),
        ("https://10.0.0.7:8443", ipaddress.ip_address("10.0.0.7")),
        ("10.0.0.7:8443", ipaddress.ip_address("10.0.0.7")),
        ("https://[2001:db8::7]:8443", ipaddress.ip_address("2001:db8::7")),
        ("", None),
        ("https://", None),
        ("https://*.example.com", None),
        ("https://a..b", None),
        ("https://-a.example.com", None),
        ("https://bücher.example", None),
        ("https://[2001:db8::7", None),
        ("https://a b/", None),
        ("https://a\0b/", None),
        ("https://" + "a" * 64 + ".example.com", None),
        ("https://" + "a." * 127 + "example", None),
    ],
)
def test_the_address_of_a_headend_is_the_host_of_its_url(
    url: str, address: str | ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> None:
    found = host_of(url)
    assert (found.value if found else None) == address
