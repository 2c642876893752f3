"""Rate limits of a gateway: exact, counted, and separate for each entity."""

import asyncio
import time
from pathlib import Path

import httpx

from service.config.settings import KafkaSettings
from tests.integration.gateways import gateway, register, registered, submit
from tests.integration.processes import Service
from tests.waiting import pause

TEMPLATE = "/api/v1/clients/{client_id}/metrics"


async def hits(service: Service, client_type: str) -> float:
    labels = f'client_type="{client_type}",endpoint="{TEMPLATE}"'
    start = f"tobogganing_manager_api_rate_limit_hits_total{{{labels}}} "
    lines = (await service.scrape()).text.splitlines()
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


async def endpoints(service: Service) -> set[str]:
    """Return every value of the label `endpoint`."""
    text = (await service.scrape()).text
    return {part.split('"')[0] for part in text.split('endpoint="')[1:]}


async def attempt(service: Service, id: str, key: str = "wrong") -> httpx.Response:
    return await submit(service, id, {"authorization": f"Bearer {key}"}, 1)


async def test_a_rate_limited_entity_is_admitted_after_retry_after(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    extra = {"RATE_LIMIT_PER_MINUTE": "20"}
    async with gateway(kafka_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        headers, other = await registered(service, "c"), await registered(service, "d")
        began = time.monotonic()
        answers = [await submit(service, "c", headers, number) for number in range(25)]
        passed = sum(answer.status_code == 200 for answer in answers)
        assert 20 <= passed <= 20 + 1 + (time.monotonic() - began) / 3
        refused = answers[-1]
        assert refused.status_code == 429
        assert refused.json() == {"error": "Too many submissions: wait before the next request"}
        wait = int(refused.headers["retry-after"])
        assert 1 <= wait <= 3
        assert (await submit(service, "d", other, 1)).status_code == 200
        assert await hits(service, "native") == 25 - passed
        async with asyncio.timeout(wait + 5):
            while (answer := await submit(service, "c", headers, 99)).status_code == 429:
                left = int(answer.headers["retry-after"])
                assert left <= wait, "a refused request extended the wait"
                await pause(0.02)
        assert answer.status_code == 200
        counted = (await service.scrape()).text
        assert 'submissions_total{kind="client",result="refused"}' in counted


async def test_zero_disables_the_limit(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    extra = {"RATE_LIMIT_PER_MINUTE": "0", "AUTH_FAILURES_PER_MINUTE": "0"}
    async with gateway(kafka_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        headers = await registered(service, "c")
        sent = await asyncio.gather(*(submit(service, "c", headers, n) for n in range(200)))
        assert {answer.status_code for answer in sent} == {200}
        failed = await asyncio.gather(*(attempt(service, "c") for _ in range(100)))
        assert {answer.status_code for answer in failed} == {401}


async def test_a_valid_credential_is_accepted_despite_any_number_of_failures(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    extra = {"AUTH_FAILURES_PER_MINUTE": "10"}
    async with gateway(kafka_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()
        headers = await registered(service, "c")
        answers = []
        for number in range(30):
            answers.append(await attempt(service, f"x-{number}"))
            assert (await submit(service, "c", headers, number)).status_code == 200
        limited = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} == {401, 429}
        assert [answer.status_code for answer in answers[:10]] == [401] * 10
        assert 10 <= len(limited) <= 20
        for answer in limited:
            assert 1 <= int(answer.headers["retry-after"]) <= 6
            assert answer.json() == {"error": "Too many failed attempts from this address"}
        assert await hits(service, "unknown") == len(limited)
        # Failures of the address count for all endpoints; ADMIN_TOKEN is still accepted.
        token = {"node_type": "client", "node_id": "c", "api_key": "wrong"}
        assert (await service.http.post("/api/v1/auth/token", json=token)).status_code == 429
        wrong = await service.http.get("/api/v1/clients", headers={"authorization": "Bearer x"})
        assert wrong.status_code == 429
        assert (await register(service, "clients", name="n", type="native")).status_code == 200
        wanted = {TEMPLATE, "/api/v1/auth/token", "/api/v1/clients"}
        assert wanted <= await endpoints(service)
        assert not [endpoint for endpoint in await endpoints(service) if "x-" in endpoint]


async def test_addresses_behind_a_trusted_proxy_are_distinguished(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    limit = {"AUTH_FAILURES_PER_MINUTE": "1"}

    async def fail(service: Service, *addresses: str) -> list[int]:
        return [
            (
                await submit(
                    service, "c", {"authorization": "Bearer x", "x-forwarded-for": address}, 1
                )
            ).status_code
            for address in addresses
        ]

    trusting = limit | {"TRUSTED_PROXIES": "127.0.0.1"}
    async with (
        gateway(kafka_settings, tmp_path, signing_keys, **trusting) as behind,
        gateway(kafka_settings, tmp_path, signing_keys, **limit) as open_,
    ):
        await behind.wait_until_ready()
        await open_.wait_until_ready()
        addresses = ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        assert await fail(behind, *addresses) == [401, 401, 429]
        assert await fail(open_, *addresses) == [401, 429, 429]
        for service, address in ((behind, "192.0.2.9"), (open_, "127.0.0.1")):
            await service.http.post(
                "/api/v1/clients/register",
                json={"name": "n", "type": "native"},
                headers={"authorization": "Bearer admin-token-of-the-tests"}
                | {"x-forwarded-for": "192.0.2.9"},
            )
            audited = [line for line in service.log().splitlines() if '"event":"audit"' in line]
            assert len(audited) == 2  # attempted, and done
            assert all(f'"address":"{address}"' in line for line in audited)


async def test_token_requests_are_limited_for_each_node(
    kafka_settings: KafkaSettings, tmp_path: Path, signing_keys: str
) -> None:
    extra = {"RATE_LIMIT_PER_MINUTE": "3"}
    async with gateway(kafka_settings, tmp_path, signing_keys, **extra) as service:
        await service.wait_until_ready()

        async def token(id: str, headers: dict[str, str]) -> httpx.Response:
            key = headers["authorization"].removeprefix("Bearer ")
            body = {"node_id": id, "node_type": "client", "api_key": key}
            return await service.http.post("/api/v1/auth/token", json=body)

        headers, other = await registered(service, "c"), await registered(service, "d")
        answers = [await token("c", headers) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
        assert answers[-1].json() == {"error": "Too many tokens: wait before the next request"}
        assert (await token("d", other)).status_code == 200
        assert (await submit(service, "c", headers, 1)).status_code == 200
        wrong = await token("c", {"authorization": "Bearer wrong"})
        assert wrong.status_code == 401, "only a request with a valid key shows the limit"
