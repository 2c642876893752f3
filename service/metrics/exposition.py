"""Renders metrics in the format and encoding that the scraper accepts."""

import gzip
from collections.abc import Iterable
from typing import NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from starlette.requests import Request
from starlette.responses import Response

from service.accept import parse_accept

# Disabled, because a `_created` series for each counter would double their number.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

EOF = b"# EOF\n"

_OPENMETRICS_VERSIONS = ("", "0.0.1", "1.0.0")


class NegotiatedFormat(NamedTuple):
    """The negotiated format: OpenMetrics 1.0 or text 0.0.4, compressed or not."""

    openmetrics: bool
    gzip: bool


def negotiate(request: Request) -> NegotiatedFormat:
    """Negotiate the format; OpenMetrics wins a tie, as Prometheus prefers it.

    prometheus-client's `choose_encoder` treats `q=0` as accepted, raises TypeError for a version
    such as 1.x, and selects text 1.0.0, which the exporter does not render.
    """
    openmetrics = text = 0.0
    for name, parameters, weight in parse_accept(request.headers.get("accept", "")):
        version = parameters.get("version", "")
        if name == "application/openmetrics-text" and version in _OPENMETRICS_VERSIONS:
            openmetrics = max(openmetrics, weight)
        elif name == "text/plain":
            text = max(text, weight)
    codings = parse_accept(request.headers.get("accept-encoding", ""))
    return NegotiatedFormat(
        openmetrics=0 < openmetrics >= text,
        gzip=any(name == "gzip" and weight > 0 for name, _, weight in codings),
    )


def render(openmetrics: bool, registries: Iterable[CollectorRegistry]) -> bytes:
    """Render registries in order, without OpenMetrics' `# EOF`."""
    generate = generate_openmetrics if openmetrics else generate_latest
    return b"".join(generate(registry).removesuffix(EOF) for registry in registries)


def finalize(negotiated: NegotiatedFormat, body: bytes) -> bytes:
    """Add `# EOF` for OpenMetrics, and compress if negotiated."""
    if negotiated.openmetrics:
        body += EOF
    return gzip.compress(body, compresslevel=1, mtime=0) if negotiated.gzip else body


def exposition_headers(negotiated: NegotiatedFormat) -> dict[str, str]:
    """Return the headers of a response in the negotiated format."""
    headers = {
        "content-type": CONTENT_TYPE_OPENMETRICS
        if negotiated.openmetrics
        else CONTENT_TYPE_PLAIN_0_0_4,
        "vary": "Accept, Accept-Encoding",
    }
    if negotiated.gzip:
        headers["content-encoding"] = "gzip"
    return headers


def exposition(request: Request, registries: Iterable[CollectorRegistry]) -> Response:
    """Return the response to a scrape of the registries."""
    negotiated = negotiate(request)
    body = finalize(negotiated, render(negotiated.openmetrics, registries))
    return Response(body, headers=exposition_headers(negotiated))


def head_response(negotiated: NegotiatedFormat) -> Response:
    """Return the response to HEAD: all headers except the length, without rendering a body."""
    response = Response(headers=exposition_headers(negotiated))
    del response.headers["content-length"]
    return response
