"""The pages of check-ins, from templates. They load only their own style and script."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from contract.kinds import HEADEND, KINDS
from contract.registry import CLUSTER
from exporter.checkins.documents import Document, group_documents, items
from exporter.checkins.list_columns import LIST_COLUMNS
from exporter.checkins.listing import Group, Page, View
from exporter.checkins.query import MAX_LIMIT, Query
from exporter.checkins.service import CheckinService
from exporter.checkins.state import COLLECTIONS, STATES, group_labels
from exporter.checkins.words import FILTERS
from service.http.errors import ApiError

_FOLDER = Path(__file__).parent
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cache-control": "no-cache, private",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "vary": "Cookie, Authorization",
}
_STATIC = {
    "checkins.css": "text/css",
    "checkins.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_FILES = {name: (_FOLDER / "static" / name).read_bytes() for name in _STATIC}
MAX_OPTIONS = 200
"""Maximum number of values that a filter offers; others can be written into the URL."""
DASHBOARD = "tobogganing-entity"
"""Uid of deploy/grafana/dashboards/entity.json."""
MAX_GROUPS_SHOWN = 6
SORT_TEXTS = (
    ("state", "worst first"),
    ("-state", "best first"),
    ("checkin", "oldest check-in first"),
    ("-checkin", "newest check-in first"),
    ("name", "name"),
    ("id", "id"),
)
"""Sort parameters and their texts, where the headings of the table are not shown."""
MIN_SILENT_SHARE = 0.1
"""Share of a group's entities from which on it is shown as silent."""

_templates = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= FILTERS
_templates.globals |= {
    "version": hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12],
    "STATES": STATES,
    "COLLECTIONS": tuple(COLLECTIONS),
}


async def static_file(request: Request) -> Response:
    """Serve the style and the script, which need no session."""
    name = request.path_params["file"]
    if name not in _FILES:
        raise ApiError(404, "Not found")
    headers = _HEADERS | {"cache-control": "public, max-age=86400"}
    return Response(_FILES[name], media_type=_STATIC[name], headers=headers)


def sign_in_page(
    request: Request, error: ApiError | None = None, target: str | None = None
) -> Response:
    """Return the form to sign in with, and how an attempt failed."""
    if target is None:
        query = request.url.query
        target = request.url.path + (f"?{query}" if query else "")
    message = None
    if error is not None:
        message = "That is not the token." if error.status == 401 else str(error)
    status = 401 if error is None else error.status
    headers = {} if error is None else error.headers or {}
    return _page("sign_in.html", status, headers, next=target, message=message)


def error_page(error: ApiError) -> Response:
    """Return an error as a page."""
    return _page("error.html", error.status, error.headers or {}, message=str(error))


async def list_page(request: Request, service: CheckinService, query: Query) -> Response:
    """Return the overview and a list."""
    view, page = await service.views.page(query)
    if page.html is None:
        page.html = await _list_html(service, query, view, page)
    return _conditional(request, HTMLResponse(page.html, headers=_HEADERS))


async def _list_html(service: CheckinService, query: Query, view: View, page: Page) -> str:
    overview = await service.overview()
    counts = dict(zip(STATES, view.counts(), strict=True))
    groups = {
        label: await service.views.groups(query.kind, label) for label in group_labels(query.kind)
    }
    shown = items(view, page.indexes, query.kind, service.store)
    if query.kind == CLUSTER:
        await _add_headends(shown, service)
    clusters = await service.views.view(CLUSTER)
    silent = _silent_groups(groups)
    return _render(
        "list.html",
        overview=overview,
        totals={
            "clients": overview["total_clients"],
            "headends": overview["total_headends"],
            "clusters": sum(clusters.counts()),
        },
        counts=counts,
        anomalous=view.anomalous(),
        query=query,
        items=shown,
        page=page,
        options=_options(groups),
        silent_groups=_group_documents(silent[:MAX_GROUPS_SHOWN]),
        more_silent_groups=max(0, len(silent) - MAX_GROUPS_SHOWN),
        sorts=SORT_TEXTS,
        thresholds=view.thresholds,
        columns=LIST_COLUMNS[query.kind],
        max_limit=MAX_LIMIT,
    )


async def entity_page(request: Request, service: CheckinService, kind: str, id: str) -> Response:
    """Return the page of one entity."""
    why = await service.why(kind, id)
    try:
        document: Document | None = service.entity(kind, id)
    except ApiError:
        document = None
    page = _page(
        "entity.html",
        200 if document else 404,
        kind=kind,
        collection=KINDS[kind].collection,
        id=id,
        entity=document,
        why=why,
        status=await service.status(),
        links=_links(service, kind, id),
    )
    return _conditional(request, page)


def _links(service: CheckinService, kind: str, id: str) -> list[tuple[str, str]]:
    """Return texts and addresses of pages elsewhere that help with an entity."""
    links = []
    if grafana := service.settings.grafana_url:
        address = f"{grafana.rstrip('/')}/d/{DASHBOARD}?{urlencode({f'var-{kind}': id})}"
        links.append(("Its dashboard in Grafana", address))
    if runbook := service.settings.runbook_url:
        links.append(("Runbook", runbook))
    return links


def _options(groups: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        label: sorted(found, key=lambda group: group.value)[:MAX_OPTIONS]
        for label, found in groups.items()
    }


def _silent_groups(groups: dict[str, list[Group]]) -> list[Group]:
    """Return the groups with silent entities, those with the largest shares first.

    Of a region, a datacenter and a cluster with the same entities, only the cluster is shown.
    """
    silent: list[Group] = []
    label_of: dict[object, str] = {}
    for label in reversed(groups):
        for group in groups[label] if label != "headless" else ():
            is_silent = group.value and group.silent >= MIN_SILENT_SHARE * group.total
            if is_silent and label_of.setdefault(group[2:], label) == label:
                silent.append(group)
    silent.sort(key=lambda group: (-group.silent / group.total, -group.silent, group.value))
    return silent


def _group_documents(groups: Sequence[Group]) -> list[Document]:
    return [
        document | {"label": group.label, "silent": group.silent}
        for group, document in zip(groups, group_documents(groups), strict=True)
    ]


async def _add_headends(items: list[Document], service: CheckinService) -> None:
    found = {group.value: group for group in await service.views.groups(HEADEND.name, CLUSTER)}
    for each in items:
        group = found.get(each["id"])
        each["headends"] = None if group is None else group.total
        each["headends_online"] = None if group is None else group.counts[STATES.index("online")]


def _page(
    template: str, status: int = 200, headers: dict[str, str] | None = None, /, **context: Any
) -> Response:
    return HTMLResponse(_render(template, **context), status, headers=_HEADERS | (headers or {}))


def _render(template: str, /, **context: Any) -> str:
    return _templates.get_template(template).render(context)


def _conditional(request: Request, response: Response) -> Response:
    """Respond with 304 if the browser has the page as it is now."""
    tag = '"' + hashlib.sha256(bytes(response.body)).hexdigest()[:32] + '"'
    response.headers["etag"] = tag
    if response.status_code == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=_HEADERS | {"etag": tag})
    return response
