"""The commands over the API, as processes against a real gateway."""

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
from cryptography import x509

from service.config.settings import KafkaSettings
from tests.integration.command_line import CommandLine, submits
from tests.integration.processes import ADMIN_TOKEN, CA_PEM, Service
from tests.integration.test_certificates import request_of
from tobogganing.devstack.ports import free_ports


@pytest.fixture
async def gateway(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> AsyncIterator[Service]:
    secrets = {"ADMIN_TOKEN": ADMIN_TOKEN, "SIGNING_KEYS_DIR": signing_keys, "CA_PEM": CA_PEM}
    async with Service("gateway", kafka_settings, tmp_path, **secrets) as service:
        await service.wait_until_ready()
        yield service


@pytest.fixture
def command(gateway: Service) -> CommandLine:
    return CommandLine(gateway.url)


async def test_a_client_from_its_registration_to_its_removal(
    gateway: Service, command: CommandLine
) -> None:
    added = (
        await command.good("clients", "add", "Änne", "--type", "docker", "--id", "a", "--json")
    ).document
    assert await submits(gateway, "a", added["api_key"]) == 200
    shown = (await command.good("clients", "show", "a")).out
    assert shown.splitlines() == ["client_id  a", "name       Änne", "type       docker"]

    rotated = (await command.good("clients", "rotate", "a", "--overlap", "300", "--json")).document
    assert await submits(gateway, "a", added["api_key"]) == 200, "the overlap"
    assert "old_keys_valid_until" in (await command.good("clients", "show", "a", "--json")).document
    rotated = (await command.good("clients", "rotate", "a", "--json")).document
    assert await submits(gateway, "a", added["api_key"]) == 401
    assert await submits(gateway, "a", rotated["new_api_key"]) == 200

    assert "receipt" in (await command.good("clients", "remove", "a", "--json")).document
    assert await submits(gateway, "a", rotated["new_api_key"]) == 401
    assert "there is no client a" in await command.bad("clients", "show", "a")
    assert "there is no client a" in await command.bad("clients", "rotate", "a")


async def test_clusters_and_their_headends(gateway: Service, command: CommandLine) -> None:
    place = ("--region", "eu", "--datacenter", "fra1")
    await command.good("clusters", "add", "Frankfurt", "--id", "fra", *place)
    where = ("--cluster-id", "fra")
    added = (await command.good("headends", "add", "H1", "--id", "h1", *where, "--json")).document
    assert (await command.good("headends", "list")).out.splitlines() == [
        "HEADEND_ID  NAME  CLUSTER_ID  REGION  DATACENTER  OLD_KEYS_VALID_UNTIL",
        "h1          H1    fra         eu      fra1",
    ]
    assert (await command.good("headends", "list", "--region", "us", "--json")).out == ""
    assert "remove them first" in await command.bad("clusters", "remove", "fra")

    token = await token_of(command, added["api_key"] + "\n")
    assert await status_of(gateway, token) == 200
    issue = ("tokens", "issue", "headend", "h1", "--api-key-file", "-")
    assert "(401)" in await command.bad(*issue, stdin="another")

    await command.good("headends", "remove", "h1")
    await command.good("clusters", "remove", "fra")
    assert (await command.good("clusters", "list", "--json")).out == ""


async def token_of(command: CommandLine, api_key: str) -> str:
    """Issue a token for headend h1."""
    words = ("tokens", "issue", "headend", "h1", "--api-key-file", "-", "--json")
    token: str = (await command.good(*words, stdin=api_key)).document["access_token"]
    return token


async def status_of(gateway: Service, token: str) -> int:
    """Submit for headend h1; return the status."""
    headers = {"authorization": f"Bearer {token}"}
    path = "/api/v1/headends/h1/metrics"
    return (await gateway.http.post(path, json={"metrics": {}}, headers=headers)).status_code


async def test_tokens_are_revoked_and_signing_keys_replaced(
    gateway: Service, command: CommandLine
) -> None:
    place = ("--region", "eu", "--datacenter", "fra1")
    await command.good("clusters", "add", "Frankfurt", "--id", "fra", *place)
    add = ("headends", "add", "H1", "--id", "h1", "--cluster-id", "fra", "--json")
    api_key = (await command.good(*add)).document["api_key"]

    token = await token_of(command, api_key)
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    await command.good("tokens", "revoke", "--jti", jti)
    assert await status_of(gateway, token) == 401
    token = await token_of(command, api_key)
    await command.good("tokens", "revoke", "headend", "h1")
    assert await status_of(gateway, token) == 401
    assert "there is no headend h2" in await command.bad("tokens", "revoke", "headend", "h2")
    unnamed = await command("tokens", "revoke")
    assert unnamed.status == 2
    assert "--jti" in unnamed.err

    (old,) = (await command.good("keys", "list", "--json")).documents
    token = await token_of(command, api_key)
    assert "rotate first" in await command.bad("keys", "remove", old["kid"], "--yes")
    new = (await command.good("keys", "rotate", "--json")).document["kid"]
    listed = (await command.good("keys", "list")).out.splitlines()
    assert [line.split()[0] for line in listed] == ["KID", old["kid"], new]
    assert await status_of(gateway, token) == 200, "the old key's tokens are still valid"
    await command.good("keys", "remove", old["kid"], "--yes")
    assert await status_of(gateway, token) == 401
    assert await status_of(gateway, await token_of(command, api_key)) == 200


async def test_certificates_are_issued(command: CommandLine, tmp_path: Path) -> None:
    await command.good("clients", "add", "A", "--type", "native", "--id", "a")
    csr = request_of(tmp_path, "a")
    issue = ("certs", "issue", "client", "a", "--csr", "-")
    certificate = x509.load_pem_x509_certificate(
        (await command.good(*issue, stdin=csr)).out.encode()
    )
    ca = x509.load_pem_x509_certificate((await command.good("certs", "ca")).out.encode())
    certificate.verify_directly_issued_by(ca)
    document = (await command.good(*issue, "--json", stdin=csr)).document
    assert set(document) == {"certificate", "ca_certificate", "expires_at"}
    nobody = ("certs", "issue", "client", "nobody", "--csr", "-")
    assert "there is no client nobody" in await command.bad(*nobody, stdin=csr)


async def test_a_listing_goes_through_all_pages(command: CommandLine, tmp_path: Path) -> None:
    fleet = "".join(
        f'{{"kind":"client","id":"c{n:04d}","name":"C{n % 7}","type":"native"}}\n'
        for n in range(2100)
    )
    await command.good("fleet", "import", "-", "--format", "ndjson", stdin=fleet)
    listed = (await command.good("clients", "list", "--json")).documents
    assert [client["client_id"] for client in listed] == [f"c{n:04d}" for n in range(2100)]
    assert len((await command.good("clients", "list", "--limit", "1005")).out.splitlines()) == 1006
    named = (await command.good("clients", "list", "--name", "c6", "--json")).documents
    assert len(named) == 300


async def test_an_error_that_the_user_can_fix_is_one_line(
    gateway: Service, command: CommandLine
) -> None:
    await command.good("clients", "add", "A", "--type", "native", "--id", "a")
    again = await command.bad("clients", "add", "A", "--type", "native", "--id", "a")
    assert again == "Error: The client a is already registered (409)"
    unknown = await command.bad("headends", "add", "H", "--cluster-id", "nowhere")
    assert "cluster_id: is not a registered cluster" in unknown
    stranger = CommandLine(gateway.url, ADMIN_TOKEN="wrong")
    assert "check ADMIN_TOKEN" in await stranger.bad("clients", "list")
    assert "check ADMIN_TOKEN" in await stranger.bad("fleet", "export", "-", "--format", "csv")
    several = CommandLine(gateway.url, ADMIN_TOKEN=f"{ADMIN_TOKEN},older")
    await several.good("clients", "list")
    nowhere = CommandLine(f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "no gateway responds at" in await nowhere.bad("clients", "show", "a")
    elsewhere = CommandLine(f"{gateway.url}/elsewhere")
    assert "check --url" in await elsewhere.bad("clients", "show", "a")


async def test_requests_to_a_gateway_without_kafka_are_repeated(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    """503 with Retry-After is repeated; then the error is one line."""
    extra = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "SIGNING_KEYS_DIR": signing_keys,
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)[0]}",
        "ANSWER_WITHIN_SECONDS": "1",
    }
    async with Service("gateway", kafka_settings, tmp_path, **extra) as alone:
        await alone.until("/-/healthy", 200)
        line = await CommandLine(alone.url).bad("clients", "add", "A", "--type", "native")
        assert "503" in line
        assert "try again" in line
        assert line.isprintable()


@pytest.mark.parametrize("answer", ["n", "y"])
async def test_a_removal_asks_for_confirmation_on_a_terminal(
    command: CommandLine, answer: str
) -> None:
    await command.good("clients", "add", "Anna", "--type", "native", "--id", "anna")
    ours, theirs = pty.openpty()
    try:
        async with command.started(
            *("clients", "remove", "anna"), stdin=theirs, stderr=theirs
        ) as process:
            question = b""
            while b"Remove client anna (Anna)? [y/N]" not in question:
                question += await asyncio.to_thread(os.read, ours, 1000)
            os.write(ours, f"{answer}\n".encode())
            async with asyncio.timeout(20):
                status = await process.wait()
    finally:
        os.close(theirs)
        os.close(ours)
    assert status == (0 if answer == "y" else 1)
    left = (await command.good("clients", "list", "--json")).out
    assert left == "" if answer == "y" else "anna" in left


async def test_the_documented_examples_work_unchanged(gateway: Service, tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    # The rest needs an exporter and Kafka: tests/e2e/ has a run with both.
    document, heading, _ = document.partition("## Check-ins")
    assert heading
    blocks = [part.split("```")[0] for part in document.split("```sh\n")[1:]]
    assert len(blocks) == 4
    process = await asyncio.create_subprocess_exec(
        *("sh", "-eux"),
        cwd=tmp_path,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TOBOGGANING_URL": gateway.url,
            "ADMIN_TOKEN": ADMIN_TOKEN,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate("\n".join(blocks).encode())
    text = output.decode()
    assert process.returncode == 0, text
    assert "access_token" in text
    assert "registered 3 of 3" in text
    assert "\nclient,bert,Bert,docker,,,,\n" in text


async def test_an_enrolment_from_its_creation_to_its_end(
    gateway: Service, command: CommandLine
) -> None:
    words = ("--type", "docker", "--max-uses", "2", "--expires-in", "7d", "--id-prefix", "fra-")
    made = (
        await command.good("enrolments", "create", "Site", "--id", "s", *words, "--json")
    ).document
    assert made["enrolment_id"] == "s"
    enrolled = await gateway.http.post(
        "/api/v1/enrol",
        json={"name": "Agent"},
        headers={"authorization": f"Bearer {made['token']}"},
    )
    client = enrolled.json()["client_id"]
    assert await submits(gateway, client, enrolled.json()["api_key"]) == 200
    (listed,) = (await command.good("enrolments", "list")).out.splitlines()[1:]
    assert listed.split()[:6] == ["s", "Site", "client", "active", "1", "2"]
    shown = (await command.good("enrolments", "show", "s", "--json")).document
    assert (shown["uses"], shown["type"], shown["id_prefix"]) == (1, "docker", "fra-")
    (found,) = (await command.good("clients", "list", "--enrolment-id", "s", "--json")).documents
    assert found["client_id"] == client
    await command.good("enrolments", "revoke", "s", "--yes")
    assert "there is no enrolment s" in await command.bad("enrolments", "show", "s")
    assert "say --type" in (await command("enrolments", "create", "Nothing")).err


async def test_several_are_removed_and_what_is_not_there_is_said(command: CommandLine) -> None:
    for id in ("a", "b", "c"):
        await command.good("clients", "add", id, "--id", id, "--type", "native")
    removed = await command("clients", "remove", "a", "x", "c", "--json")
    assert removed.status == 1
    assert [each["client_id"] for each in removed.documents] == ["a", "c"]
    assert "client x: there is no client x" in removed.err
    assert "Error: not removed: 1 client of 3" in removed.err
    (left,) = (await command.good("clients", "list", "--json")).documents
    assert left["client_id"] == "b"
