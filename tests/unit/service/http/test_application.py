"""The application of a service: JSON errors, route templates, stops, credentials, metrics."""

import asyncio
import importlib.metadata
import platform
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from service.config.secrets import ReloadableTokens
from service.config.settings import HttpSettings
from service.http.application import build_app, route
from service.http.bearer_auth import StaticTokenAuth, bearer_credential
from service.http.errors import JSON, ApiError, unavailable
from service.http.health import health_routes
from service.http.server import listen, serving
from service.metrics.requests import RequestMetrics

hanging = asyncio.Event()


async def show(request: Request) -> Response:
    return JSON({"id": request.path_params["thing_id"], "credential": bearer_credential(request)})


async def fail(_: Request) -> Response:
    raise RuntimeError("an internal error with a secret")


async def refuse(_: Request) -> Response:
    raise ApiError(400, "Not so", field="a.b")


async def stay_away(_: Request) -> Response:
    raise unavailable("Later", retry_after=3)


async def hang(_: Request) -> Response:
    hanging.set()
    await asyncio.sleep(3600)
    return JSON({})


@pytest.fixture
def metrics() -> RequestMetrics:
    return RequestMetrics(CollectorRegistry())


@pytest.fixture
def app(metrics: RequestMetrics) -> Starlette:
    check = StaticTokenAuth(ReloadableTokens("right"), "admin", metrics)

    async def guarded(request: Request) -> Response:
        check(request)
        return JSON({})

    async def reasons() -> list[str]:
        return ["kafka"]

    return build_app(
        [
            route("/things/{thing_id:id}", show, "GET"),
            route("/fail", fail, "GET"),
            route("/refuse", refuse, "GET"),
            route("/away", stay_away, "GET"),
            route("/hang", hang, "GET"),
            route("/guarded", guarded, "GET"),
            *health_routes(reasons),
        ],
        metrics,
    )


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


def counted(metrics: RequestMetrics, endpoint: str, status: str, method: str = "GET") -> float:
    labels = {"method": method, "endpoint": endpoint, "status": status}
    name = "tobogganing_manager_http_requests_total"
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_errors_are_json(http: httpx.AsyncClient) -> None:
    for path, status, body in (
        ("/nowhere", 404, {"error": "Not Found"}),
        ("/fail", 500, {"error": "Internal server error"}),
        ("/refuse", 400, {"error": "Not so", "field": "a.b"}),
        ("/away", 503, {"error": "Later"}),
    ):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()) == (status, body)
    assert (await http.get("/away")).headers["retry-after"] == "3"


async def test_head_is_get_without_a_body_and_other_methods_are_405(
    http: httpx.AsyncClient,
) -> None:
    assert (await http.head("/things/a")).status_code == 200
    answer = await http.post("/things/a")
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/things/a/", "/things/a%0A", "/things/", "/things/a%20b", "//"])
async def test_paths_are_matched_exactly(
    http: httpx.AsyncClient, metrics: RequestMetrics, path: str
) -> None:
    assert (await http.get(path)).status_code == 404
    assert counted(metrics, "unmatched", "404") == 1


async def test_requests_are_counted_once_by_template_and_status(
    http: httpx.AsyncClient, metrics: RequestMetrics
) -> None:
    for path in ("/things/a", "/things/b", "/fail", "/refuse"):
        await http.get(path)
    await http.request("BREW", "/things/a")
    assert counted(metrics, "/things/{thing_id}", "200") == 2
    assert counted(metrics, "/fail", "500") == 1
    assert counted(metrics, "/refuse", "400") == 1
    assert counted(metrics, "/things/{thing_id}", "405", method="OTHER") == 1


@pytest.mark.parametrize(
    ("header", "credential"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
        ("Bearer " + "x" * 4096, "x" * 4096),
        ("Bearer " + "x" * 4097, None),
    ],
)
async def test_bearer_credentials_are_parsed(
    http: httpx.AsyncClient, header: str, credential: str | None
) -> None:
    answer = await http.get("/things/a", headers={"Authorization": header})
    assert answer.json()["credential"] == credential


async def test_a_token_is_checked_and_counted(
    http: httpx.AsyncClient, metrics: RequestMetrics
) -> None:
    for given, status in (("right", 200), ("wrong", 401), ("right1", 401), ("ri", 401)):
        answer = await http.get("/guarded", headers={"Authorization": f"Bearer {given}"})
        assert answer.status_code == status
    name = "tobogganing_manager_auth_attempts_total"
    value = metrics.registry.get_sample_value
    assert value(name, {"type": "admin", "result": "success"}) == 1
    assert value(name, {"type": "admin", "result": "failure"}) == 3
    assert value(name, {"type": "jwt", "result": "failure"}) == 0


async def test_health_and_readiness(http: httpx.AsyncClient) -> None:
    for path in ("/-/healthy", "/health", "/healthz"):
        assert (await http.get(path)).json() == {"status": "healthy"}
    answer = await http.get("/-/ready")
    assert answer.status_code == 503
    assert answer.json()["waiting_for"] == ["kafka"]


async def test_a_request_cancelled_by_a_stop_gets_503(
    http: httpx.AsyncClient, metrics: RequestMetrics
) -> None:
    request = asyncio.create_task(http.get("/hang"))
    await hanging.wait()
    request.cancel()
    answer = await request
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert counted(metrics, "/hang", "503") == 1


async def test_every_response_is_timed_once(
    http: httpx.AsyncClient, metrics: RequestMetrics
) -> None:
    def timed(endpoint: str, method: str = "GET", le: str = "+Inf") -> float | None:
        labels = {"method": method, "endpoint": endpoint, "le": le}
        name = "tobogganing_manager_http_request_duration_seconds_bucket"
        return metrics.registry.get_sample_value(name, labels)

    for path in ("/things/a", "/things/b", "/away", "/fail", "/nowhere", "/elsewhere?x=/things/a"):
        await http.get(path)
    await http.request("BREW", "/things/a")
    assert timed("/things/{thing_id}") == 2
    assert timed("/things/{thing_id}", le="10.0") == 2
    assert (timed("/away"), timed("/fail"), timed("unmatched")) == (1, 1, 2)
    assert timed("/things/{thing_id}", "OTHER") == 1
    endpoints = {
        sample.labels["endpoint"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if "endpoint" in sample.labels
    }
    assert endpoints == {"/things/{thing_id}", "/away", "/fail", "unmatched"}


async def test_the_duration_includes_waiting(metrics: RequestMetrics) -> None:
    released = asyncio.Event()

    async def wait(_: Request) -> Response:
        asyncio.get_running_loop().call_later(0.03, released.set)
        await released.wait()
        return JSON({})

    transport = httpx.ASGITransport(build_app([route("/wait", wait, "GET")], metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        await http.get("/wait")
    name = "tobogganing_manager_http_request_duration_seconds_sum"
    labels = {"method": "GET", "endpoint": "/wait"}
    assert (metrics.registry.get_sample_value(name, labels) or 0) >= 0.029


def test_build_info_is_exported(metrics: RequestMetrics) -> None:
    labels = {
        "version": importlib.metadata.version("tobogganing-metrics"),
        "python": platform.python_version(),
    }
    assert metrics.registry.get_sample_value("tobogganing_manager_build_info", labels) == 1


async def test_an_application_is_told_of_a_stop_before_its_requests_are_answered(
    metrics: RequestMetrics,
) -> None:
    stopping = asyncio.Event()
    began = asyncio.Event()

    async def wait_for_stop(_: Request) -> Response:
        began.set()
        await stopping.wait()
        return JSON({"stopped": True})

    app = build_app([route("/wait", wait_for_stop, "GET")], metrics, on_stop=stopping.set)
    settings = HttpSettings(metrics_token=ReloadableTokens("m"), host="127.0.0.1", port=0)
    with listen(settings) as port:
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        async with (
            httpx.AsyncClient(base_url=url, trust_env=False) as http,
            asyncio.timeout(10),
        ):
            async with serving(app, settings, port):
                answer = asyncio.create_task(http.get("/wait"))
                await began.wait()
            assert (await answer).json() == {"stopped": True}
