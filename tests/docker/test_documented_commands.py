"""The `docker compose` commands of docs/, word for word, on an installation of one of each."""

import base64
import re
import ssl
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.docker.fleet import Fleet, register_client
from tests.docker.installation import URL, Installation, checkout, trusting, wait_for
from tests.integration.versions import ROOT
from tests.unit.gateway.csrs import csr
from tobogganing.devstack.certificate import self_signed

ALERTMANAGER = "http://127.0.0.1:9093"


@pytest.fixture(scope="module", autouse=True)
def fleet(installation: Installation) -> Fleet:
    """An installation as a laptop has it, whose clients have reported."""
    checkout(installation.folder)
    installation.make_env("LAPTOP=1")
    installation.compose("build")
    installation.up()
    fleet = Fleet(installation)
    fleet.register("client")
    fleet.report()
    fleet.assert_all_shown()
    return fleet


def documented(page: str, words: str) -> str:
    """The command in docs/<page> that contains these words."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^    (docker compose .+)|`(docker compose [^`]+)`", text, re.M)
    # A command in a sentence may be wrapped.
    commands = {re.sub(r"\s+", " ", block or inline) for block, inline in found}
    matching = [command for command in commands if words in command]
    assert len(matching) == 1, matching
    return matching[0]


def test_a_backup_is_the_same_as_the_installation(
    installation: Installation, tmp_path: Path
) -> None:
    folder = "/var/backups/tobogganing"
    command = documented("backup.md", f"-v {folder}:/backup")
    installation.shell(command.replace(folder, str(tmp_path)))
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    before, _, _ = command.partition("processor backup")
    restore = f"processor restore /backup/{file.name} --check"
    # Its status is 1 if anything is missing or different.
    installation.shell(before.replace(folder, str(tmp_path)) + restore)


def test_secrets_are_copied(installation: Installation) -> None:
    installation.shell(documented("backup.md", "--entrypoint tar"))
    with tarfile.open(installation.folder / "secrets.tar.gz") as archive:
        names = archive.getnames()
    assert "secrets/CA_PEM" in names
    assert "tls/edge.pem" in names


def test_dead_letters_are_listed(installation: Installation) -> None:
    installation.shell(documented("cli.md", "dead-letters list"))
    installation.shell(documented("runbook.md", "dead-letters list"))


def test_months_are_computed_again(installation: Installation) -> None:
    installation.shell(documented("runbook.md", "-replay.timeFrom"))


def test_logs_of_a_service_are_shown(installation: Installation) -> None:
    lines = installation.shell(documented("runbook.md", "logs --tail 50")).splitlines()
    assert 0 < len(lines) <= 50


def test_the_edge_takes_another_certificate(installation: Installation, fleet: Fleet) -> None:
    mine = self_signed(datetime.now(UTC))
    (installation.folder / "mine.pem").write_text(mine, encoding="ascii")
    installation.shell(documented("runbook.md", "<mine.pem"))
    installation.shell(documented("runbook.md", "docker compose restart edge"))

    def shown() -> bool:
        try:
            return ssl.get_server_certificate(("127.0.0.1", 8443)) in mine
        except OSError:
            return False

    wait_for(shown, "the certificate")
    fleet.report("https://localhost:8443", trusting(mine))
    fleet.assert_all_shown()


def test_alertmanager_has_another_receiver(installation: Installation) -> None:
    file = installation.folder / "deploy/alertmanager/alertmanager.yml"
    text = file.read_text(encoding="utf-8")
    receiver = "  - name: operators\n"
    assert receiver in text
    webhook = "    webhook_configs: [{ url: http://192.0.2.1/hook }]\n"
    file.write_text(text.replace(receiver, receiver + webhook), encoding="utf-8")
    installation.shell(documented("runbook.md", "docker compose restart alertmanager"))

    def used() -> bool:
        response = httpx.get(f"{ALERTMANAGER}/api/v2/status", trust_env=False)
        return response.is_success and "webhook_configs" in response.json()["config"]["original"]

    wait_for(used, "the receiver")


def test_the_token_of_scrapes_is_rotated(installation: Installation, fleet: Fleet) -> None:
    """Prometheus has the new one while the old one is still valid."""
    old, new = installation.secret("METRICS_TOKEN"), "f" * 64
    up = documented("secrets.md", "docker compose up --detach")
    assert up == "docker compose up --detach"

    def status(token: str) -> int:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.get(f"{URL}/metrics", headers=headers, trust_env=False).status_code

    for tokens, expected in ((f"{new},{old}", 200), (new, 401)):
        installation.set("METRICS_TOKEN", tokens)
        installation.up()
        assert [status(new), status(old)] == [200, expected]
    command = ("exec", "-T", "prometheus", "cat", "/run/tobogganing/metrics-token")
    assert installation.compose(*command).strip() == new
    fleet.report()
    fleet.assert_all_shown()


def test_clients_report_with_their_certificates(installation: Installation, tmp_path: Path) -> None:
    """With MTLS=on in .env, at the edge only."""
    id, pair, private = "by-certificate", tmp_path / "pair.pem", generate_private_key(SECP256R1())
    request = {"node_type": "client", "node_id": id, "csr": csr(private)}
    key = {"authorization": f"Bearer {register_client(installation, id)}"}
    signed = httpx.post(f"{URL}/api/v1/certs/generate", json=request, headers=key, trust_env=False)
    assert signed.status_code == 200, signed.text
    certificate = signed.json()["certificate"]
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair.write_text(certificate + pem.decode("ascii"), encoding="ascii")
    installation.set("MTLS", "on")
    installation.up()
    with_certificate = trusting((installation.folder / "mine.pem").read_text(encoding="ascii"))
    with_certificate.load_cert_chain(pair)
    path, body = f"/api/v1/clients/{id}/metrics", {"metrics": {"bytes_sent": 5}}
    with installation.http("https://localhost:8443", verify=with_certificate) as http:
        del http.headers["authorization"]
        response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    assert installation.values(response.json()["receipt"])[id] == 5
    der = base64.b64encode(ssl.PEM_cert_to_DER_cert(certificate)).decode()
    forged = {"client-cert": f":{der}:"}
    response = httpx.post(f"{URL}{path}", json=body, headers=forged, trust_env=False)
    assert response.status_code == 401
