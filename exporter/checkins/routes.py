"""The endpoints of check-ins: JSON under /api/v1/checkins, pages under /checkins."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from contract.kinds import KINDS
from exporter.checkins import pages
from exporter.checkins.documents import Document, group_documents, list_document
from exporter.checkins.export import csv_steps
from exporter.checkins.query import Query, QueryError
from exporter.checkins.service import CheckinService
from exporter.checkins.session import Sessions
from exporter.checkins.sign_in import SignIn, redirect
from exporter.checkins.state import COLLECTIONS, group_labels
from service.http.application import TemplateRoute, route
from service.http.bearer_auth import StaticTokenAuth, bearer_credential
from service.http.errors import JSON, ApiError


class CheckinRoutes:
    """Serves check-ins to holders of METRICS_TOKEN: as a Bearer credential, or with a session.

    ADMIN_TOKEN, if the exporter has it, opens the evidence with the actors of changes.
    """

    def __init__(
        self,
        service: CheckinService,
        sessions: Sessions,
        check_token: StaticTokenAuth,
        admin: StaticTokenAuth | None,
        check_ready: Callable[[], None],
    ) -> None:
        self._service = service
        self._sessions = sessions
        self._check_token = check_token
        self._admin = admin
        self._check_ready = check_ready
        self._sign_in = SignIn(sessions, check_token)

    def routes(self) -> list[TemplateRoute]:
        return [
            route("/api/v1/checkins", self._list, "GET"),
            route("/api/v1/checkins/{kind}/{id:id}", self._entity, "GET"),
            route("/api/v1/checkins/{kind}/{id:id}/why", self._why, "GET"),
            route("/checkins", self._page, "GET"),
            route("/checkins/sign-in", self._sign_in.start, "POST"),
            route("/checkins/sign-out", self._sign_in.end, "POST"),
            route("/checkins/static/{file}", pages.static_file, "GET"),
            route("/checkins/{kind}/{id:id}", self._entity_page, "GET"),
        ]

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        self._check_ready()
        parameters = request.query_params.multi_items()
        format = dict(parameters).get("format", "json")
        group_by = dict(parameters).get("group_by")
        query = _query([pair for pair in parameters if pair[0] not in ("format", "group_by")])
        if format not in ("json", "csv"):
            raise ApiError(400, "format must be json or csv", field="format")
        if format == "csv":
            return await self._csv(query)
        document = await self._service.overview()
        view, page = await self._service.views.page(query)
        document |= list_document(view, page, query, self._service.store)
        if group_by is not None:
            document["groups"] = await self._groups(query, group_by)
        return _private(JSON(document))

    async def _csv(self, query: Query) -> Response:
        view, indexes = await self._service.views.order(query)
        return _private(
            StreamingResponse(
                csv_steps(view, indexes, query, self._service.store),
                media_type="text/csv; charset=utf-8",
                headers={"content-disposition": f'attachment; filename="{query.collection}.csv"'},
            )
        )

    async def _groups(self, query: Query, label: str) -> list[Document]:
        if label not in group_labels(query.kind):
            known = ", ".join(group_labels(query.kind))
            raise ApiError(400, f"group_by must be one of {known}", field="group_by")
        return group_documents(await self._service.views.groups(query.kind, label))

    async def _entity(self, request: Request) -> Response:
        self._authenticate(request)
        self._check_ready()
        kind, id = _entity_of(request)
        return _private(JSON(self._service.entity(kind, id)))

    async def _why(self, request: Request) -> Response:
        is_admin = self._is_admin(request)
        if not is_admin:
            self._authenticate(request)
        self._check_ready()
        kind, id = _entity_of(request)
        return _private(JSON(await self._service.why(kind, id, with_actors=is_admin)))

    async def _page(self, request: Request) -> Response:
        if not self._has_session(request):
            return pages.sign_in_page(request)
        return await self._shown(request, self._list_html)

    async def _list_html(self, request: Request) -> Response:
        query = _query(request.query_params.multi_items())
        return await pages.list_page(request, self._service, query)

    async def _entity_page(self, request: Request) -> Response:
        if not self._has_session(request):
            return pages.sign_in_page(request)
        return await self._shown(request, self._entity_html)

    async def _entity_html(self, request: Request) -> Response:
        kind, id = _entity_of(request)
        if kind not in KINDS:
            return redirect(f"/checkins?kind=headends&cluster={id}")
        return await pages.entity_page(request, self._service, kind, id)

    async def _shown(self, request: Request, make: Callable[[Request], Any]) -> Response:
        """Return a page, or an error as a page."""
        try:
            self._check_ready()
            response: Response = await make(request)
        except ApiError as error:
            return pages.error_page(error)
        return response

    def _has_session(self, request: Request) -> bool:
        if "authorization" in request.headers:
            self._check_token(request)
            return True
        return self._sessions.is_valid(request)

    def _is_admin(self, request: Request) -> bool:
        """Return whether a request has ADMIN_TOKEN, and not METRICS_TOKEN; count the attempt only
        then."""
        credential = bearer_credential(request)
        if self._admin is None or not self._admin.matches(credential):
            return False
        if self._check_token.matches(credential):
            return False
        self._admin(request)
        return True

    def _authenticate(self, request: Request) -> None:
        """Accept a session, or the token as a Bearer credential.

        Raises:
            ApiError: 401 or 429, the request has neither.
        """
        if "authorization" in request.headers or not self._sessions.is_valid(request):
            self._check_token(request)


def _entity_of(request: Request) -> tuple[str, str]:
    """Return kind and id of a path.

    Raises:
        ApiError: 404, there is no such kind.
    """
    given = request.path_params["kind"]
    kind = COLLECTIONS.get(given, given)
    if kind not in COLLECTIONS.values():
        raise ApiError(404, "Not found")
    return kind, request.path_params["id"]


def _query(parameters: list[tuple[str, str]]) -> Query:
    """Parse the parameters of a list.

    Raises:
        ApiError: 400, one is invalid.
    """
    try:
        return Query.parse(parameters)
    except QueryError as error:
        raise ApiError(400, str(error), field=error.parameter) from error


def _private(response: Response) -> Response:
    response.headers["cache-control"] = "no-store"
    response.headers["x-content-type-options"] = "nosniff"
    return response
