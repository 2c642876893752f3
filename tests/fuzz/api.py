"""Tests the APIs of a gateway and an exporter on a real Kafka with schemathesis."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.fleet import Clients, Headends, register
from bench.gateway import register_relay
from bench.pipeline import MeasuredPipeline, pipeline
from tests.fuzz.exporter_api import document

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "positive_data_acceptance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
)
OPERATIONS = """
# Whose credentials these are, until another operation replaces or removes them. A body gets 400 if
# it is not compressed as its header says.
[[operations]]
include-path = "/api/v1/clients/{{client_id}}/metrics"
parameters = {{ client_id = "{client}" }}
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "404"]
[[operations]]
include-path = "/api/v1/headends/{{headend_id}}/metrics"
parameters = {{ headend_id = "{headend}" }}
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "404"]
# Of a batch each item is answered for itself.
[[operations]]
include-path = "/api/v1/metrics"
checks.negative_data_rejection.expected-statuses = ["200", "400", "401", "413", "415"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "404"]
# schemathesis cannot write application/x-ndjson: tests/unit/gateway/api/test_bulk_registration.py.
[[operations]]
include-path = "/api/v1/registrations"
enabled = false
# A csr must be one, which no schema can say; so must a headend's cluster be registered.
[[operations]]
include-path = ["/api/v1/clients/register", "/api/v1/headends/register", "/api/v1/certs/generate"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "404", "409"]
# Which fields an enrolment takes depends on its kind.
[[operations]]
include-path = ["/api/v1/enrolments", "/api/v1/enrol"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "409"]
"""
PATIENCE = 240.0
"""Seconds that a run may exceed its time."""


@dataclass(frozen=True)
class ApiUnderTest:
    """A service: the URL or file of its document, and credentials for the document's schemes."""

    name: str
    url: str
    document: str
    credentials: Mapping[str, str]
    operations: str = ""
    """Known values of some operations, as schemathesis is configured."""


@contextlib.asynccontextmanager
async def services(folder: Path) -> AsyncIterator[list[ApiUnderTest]]:
    """Run all services, with a registered client that has submitted, a headend and a relay."""
    async with pipeline(folder) as parts, contextlib.AsyncExitStack() as stack:
        kafka = await parts.topics()
        clients, headends = Clients(1), Headends(1)
        await register(kafka, clients.records())
        await register(kafka, headends.records())
        running = {
            name: await stack.enter_async_context(
                parts.service(name, kafka, AUTH_FAILURES_PER_MINUTE="0")
            )
            for name in ("gateway", "processor", "exporter")
        }
        url = running["gateway"].url
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            relay = await register_relay(http, parts)
            submitted = await http.post(
                clients.path(0),
                content=clients.body(0),
                headers={
                    "authorization": f"Bearer {clients.credential(0)}",
                    "content-type": "application/json",
                },
            )
            api = {
                "node_id": headends.id(0),
                "node_type": "headend",
                "api_key": headends.api_key(0),
            }
            token = await http.post("/api/v1/auth/token", json=api)
            enrolment = await http.post(
                "/api/v1/enrolments",
                json={"name": "site", "kind": "client", "type": "native"},
                headers=parts.secrets.bearer("ADMIN_TOKEN"),
            )
        described = folder / "exporter.json"
        described.write_text(json.dumps(document(submitted.json()["receipt"])))
        yield [
            ApiUnderTest(
                "gateway",
                url,
                f"{url}/api/v1/openapi.json",
                {
                    "admin": _token(parts, "ADMIN_TOKEN"),
                    "api_key": clients.credential(0),
                    "jwt": token.json()["access_token"],
                    "relay": relay,
                    "enrolment": enrolment.json()["token"],
                },
                OPERATIONS.format(client=clients.id(0), headend=headends.id(0)),
            ),
            ApiUnderTest(
                "exporter",
                running["exporter"].url,
                str(described),
                {"metrics": _token(parts, "METRICS_TOKEN")},
            ),
        ]


def _token(parts: MeasuredPipeline, name: str) -> str:
    return parts.secrets.bearer(name)["authorization"].removeprefix("Bearer ")


def configuration(api: ApiUnderTest) -> str:
    """Return the configuration of schemathesis, which reads credentials only from there."""
    lines = [
        "[checks.negative_data_rejection]",
        'expected-statuses = ["400", "401", "404", "405", "409", "413", "415", "421"]',
    ]
    for scheme, credential in api.credentials.items():
        lines += [f"[auth.openapi.{scheme}]", f"bearer = {json.dumps(credential)}"]
    return "\n".join([*lines, api.operations])


async def check(api: ApiUnderTest, seconds: int, seed: int, folder: Path) -> bool:
    """Test a service for this time; return whether it conforms to its document."""
    config = folder / f"{api.name}.toml"
    config.write_text(configuration(api))
    options = {
        "url": api.url,
        "checks": ",".join(CHECKS),
        "seed": seed,
        "max-time": seconds,
        "generation-database": "none",
        "request-timeout": 30,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}"),
        *("run", api.document, *arguments, "--continue-on-failure", "--no-shrink"),
        cwd=folder,
    )
    try:
        async with asyncio.timeout(seconds + PATIENCE):
            return await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def run(seconds: int, seed: int, folder: Path) -> bool:
    """Test both services."""
    async with services(folder) as found:
        return all([await check(each, seconds, seed, folder) for each in found])
