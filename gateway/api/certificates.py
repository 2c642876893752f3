"""Certificates: the endpoints under `/api/v1/certs`, and the certificates that registrations with a
`csr` get."""

import ipaddress
import re
import time
from datetime import timedelta
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from starlette.requests import Request
from starlette.responses import Response

from contract.kinds import HEADEND
from contract.registry import CLUSTER, RegistryRecord
from gateway.api.endpoints import ApiEndpoints, ApiParts
from gateway.api.schemas import (
    NODE_KINDS,
    CaCertificate,
    CertificateIssued,
    CertificateRequest,
    require_id,
    require_one_of,
    rfc3339,
)
from gateway.auth.actors import Accepted
from gateway.auth.ca import (
    CertificateAuthority,
    CertificateIdentity,
    ExpiredAuthorityError,
    IssuedCertificate,
    utc_datetime,
)
from gateway.auth.certificate_names import CertifiedNode
from gateway.auth.csr import read_request
from gateway.body.json import BodyError, JsonDecoder
from gateway.body.reader import read_body
from gateway.metrics import GatewayMetrics
from gateway.operations import Operation, OperationRoute, operation_route
from gateway.registry.audit_log import AuditedChange
from gateway.registry.writer import RegistryWriter
from gateway.settings import GatewaySettings
from service.http.errors import JSON, ApiError
from service.metrics.requests import address_of

_HOST = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)


def load_ca(settings: GatewaySettings) -> CertificateAuthority | None:
    """Load the configured CA; return None if no CA is configured.

    Raises:
        SettingsError: CA_PEM is not a valid CA.
    """
    if settings.ca_pem is None:
        return None
    lifetime = timedelta(days=settings.certificate_days)
    return CertificateAuthority(settings.ca_pem, lifetime, utc_datetime(time.time()))


class CertificateIssuer:
    """Signs certificates with the names from the registry, and counts the certificates issued."""

    def __init__(
        self, ca: CertificateAuthority | None, registry: RegistryWriter, metrics: GatewayMetrics
    ) -> None:
        self._ca = ca
        self._registry = registry
        self._metrics = metrics

    @property
    def ca(self) -> CertificateAuthority:
        """The configured CA.

        Raises:
            ApiError: 501 if no CA is configured.
        """
        if self._ca is None:
            raise ApiError(501, "This gateway issues no certificates: set CA_PEM or CA_PEM_FILE")
        return self._ca

    def sign(self, csr: str, record: RegistryRecord) -> IssuedCertificate:
        """Sign a certificate request.

        Raises:
            BodyError: the request is not valid or not accepted.
            ApiError: 501 if there is no CA, or its own certificate is not valid now.
        """
        ca = self.ca
        try:
            key = read_request(csr)
        except ValueError as error:
            raise BodyError("csr", str(error)) from error
        is_server = record.kind == HEADEND.name
        address = self._address(record) if is_server else None
        assert record.incarnation is not None, "given before the certificate is signed"
        node = CertifiedNode(record.kind, record.id, record.incarnation, record.token_epoch)
        identity = CertificateIdentity(node, address, is_server)
        try:
            return ca.issue(key, identity, utc_datetime(self._registry.time.earliest_seconds()))
        except ExpiredAuthorityError as error:
            raise ApiError(501, f"This gateway cannot issue certificates now: {error}") from error

    def to_response(self, issued: IssuedCertificate, kind: str) -> CertificateIssued:
        """Count an issued certificate; return it as the response shows it."""
        self._metrics.certificates[kind].inc()
        return CertificateIssued(
            certificate=issued.certificate,
            ca_certificate=self.ca.certificate,
            expires_at=rfc3339(issued.expires_at),
        )

    def _address(self, headend: RegistryRecord) -> x509.DNSName | x509.IPAddress | None:
        cluster = self._registry.get(CLUSTER, headend.attributes["cluster_id"])
        return host_of(cluster.attributes.get("headend_url", "")) if cluster else None


_GENERATE = Operation(
    summary="Get a certificate for a certificate request",
    credentials=("admin", "api_key", "jwt", "certificate"),
    errors=(404, 501),
    bodies=(CertificateRequest,),
    response=CertificateIssued,
)
_SHOW_CA = Operation(summary="The certificate of the CA", errors=(501,), response=CaCertificate)


class CertificateEndpoints(ApiEndpoints):
    """Endpoints that issue certificates to authenticated nodes and publish the CA certificate."""

    def __init__(self, parts: ApiParts, issuer: CertificateIssuer) -> None:
        super().__init__(parts)
        self._issuer = issuer
        self._decoder = JsonDecoder(CertificateRequest)
        # A certificate that is a credential would outlive the token that it was issued for.
        is_mtls = parts.settings.is_mtls
        self._accepted: Accepted = "key or certificate" if is_mtls else "key or token"

    def routes(self) -> list[OperationRoute]:
        return [
            operation_route("/api/v1/certs/generate", POST=(self.generate, _GENERATE)),
            operation_route("/api/v1/certs/ca", GET=(self.show_ca, _SHOW_CA)),
        ]

    async def show_ca(self, _: Request) -> Response:
        certificate = self._issuer.ca.certificate
        return JSON(msgspec.to_builtins(CaCertificate(ca_certificate=certificate)))

    async def generate(self, request: Request) -> Response:
        """Sign a certificate request for a node, authenticated as that node or with ADMIN_TOKEN."""
        deadline = self._deadline()
        content = await read_body(request, self._max_body, deadline)
        body = self._decoder.decode(content)
        require_id(body, "node_id")
        kind, id = require_one_of("node_type", body.node_type, NODE_KINDS), body.node_id
        # Catch up first, so that a key that was replaced at another gateway gets no certificate.
        await self._authenticator.catch_up(deadline)
        actor = await self._authenticator.check_actor(request, kind, id, deadline, self._accepted)
        record = self._registry.get(kind, id)
        if record is None:
            raise ApiError(404, f"{kind.capitalize()} not found")
        issued = self._issuer.sign(body.csr, record)
        address = address_of(request.scope)
        change = AuditedChange(
            actor, "issue-certificate", f"{kind}:{id}", address, audit_details(issued)
        )
        async with self._audit_log.recording(change, deadline):
            response = self._issuer.to_response(issued, kind)
        return JSON(msgspec.to_builtins(response))


def audit_details(issued: IssuedCertificate) -> dict[str, str]:
    """Return the details of a certificate for its audit record."""
    return {"serial": issued.serial, "expires_at": rfc3339(issued.expires_at)}


def host_of(url: str) -> x509.DNSName | x509.IPAddress | None:
    """Return the host of a URL (or of `host:port`) as a DNS name or IP address; None if it has
    none."""
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return None
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    host = host.removesuffix(".")
    return x509.DNSName(host) if _HOST.fullmatch(host) else None
