"""Content negotiation, and bodies in the negotiated format."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.requests import Request

from service.metrics.exposition import NegotiatedFormat, exposition, head_response, negotiate

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def scrape(accept: str | None = None, encoding: str | None = None) -> Request:
    headers = [("accept", accept), ("accept-encoding", encoding)]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers if value is not None]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/html, */*;q=0.8", False),
        ("text/plain", False),
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=1.x.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.1, text/plain", False),
        ("application/openmetrics-text;q=nonsense", False),
    ],
)
def test_the_format_is_negotiated(accept: str | None, openmetrics: bool) -> None:
    assert negotiate(scrape(accept)) == NegotiatedFormat(openmetrics, gzip=False)


@pytest.mark.parametrize(
    ("encoding", "gzipped"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip ; q=0.000", False),
        ("identity", False),
    ],
)
def test_the_encoding_is_negotiated(encoding: str | None, gzipped: bool) -> None:
    assert negotiate(scrape(encoding=encoding)).gzip == gzipped


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_any_accept_header_is_handled(accept: str, encoding: str) -> None:
    negotiate(scrape(accept, encoding))


@pytest.fixture
def registries() -> list[CollectorRegistry]:
    first, second = CollectorRegistry(), CollectorRegistry()
    Counter("things", "Things", registry=first).inc(3)
    Gauge("level", "Level", registry=second).set(0.5)
    return [first, second]


def test_the_text_format(registries: list[CollectorRegistry]) -> None:
    request = scrape()
    response = exposition(request, registries)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["vary"] == "Accept, Accept-Encoding"
    assert "content-encoding" not in response.headers
    assert response.body == (
        b"# HELP things_total Things\n# TYPE things_total counter\nthings_total 3.0\n"
        b"# HELP level Level\n# TYPE level gauge\nlevel 0.5\n"
    )


def test_openmetrics_of_several_registries_is_one_document(
    registries: list[CollectorRegistry],
) -> None:
    request = scrape(PROMETHEUS_2, "gzip")
    response = exposition(request, registries)
    assert response.headers["content-type"].startswith(
        "application/openmetrics-text; version=1.0.0"
    )
    assert response.headers["content-encoding"] == "gzip"
    text = gzip.decompress(bytes(response.body)).decode()
    assert text.count("# EOF") == 1
    assert text.endswith("# EOF\n")
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert [family.name for family in families] == ["things", "level"]


@pytest.mark.parametrize(
    "wanted", [NegotiatedFormat(a, b) for a in (False, True) for b in (False, True)]
)
def test_head_has_the_headers_of_get(
    wanted: NegotiatedFormat, registries: list[CollectorRegistry]
) -> None:
    accept = PROMETHEUS_2 if wanted.openmetrics else None
    response = exposition(scrape(accept, "gzip" if wanted.gzip else None), registries)
    head = head_response(wanted)
    assert set(response.headers.items()) - set(head.headers.items()) == {
        ("content-length", str(len(response.body)))
    }
    assert head.body == b""
