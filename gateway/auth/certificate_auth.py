"""Authenticates nodes by their client certificates."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import Scope

from contract.registry import RegistryRecord
from gateway.auth.certificate_names import CertifiedNode
from gateway.auth.client_certificates import (
    CertificateError,
    ClientCertificate,
    ClientCertificates,
)
from gateway.registry.writer import RegistryWriter
from service.http.auth_failures import AuthFailureLimiter
from service.http.bearer_auth import AUTHORIZATION
from service.http.connection.fast_path import RawHeaders
from service.metrics.requests import RequestMetrics


class CertificateAuth:
    """Compares client certificates with the registry; accepts none if there are no `certificates`.

    `catch_up` reads the registry to its end by a deadline on the monotonic clock.
    """

    def __init__(
        self,
        certificates: ClientCertificates | None,
        registry: RegistryWriter,
        requests: RequestMetrics,
        auth_failures: AuthFailureLimiter,
        catch_up: Callable[[float], Awaitable[None]],
    ) -> None:
        self._certificates = certificates
        self._registry = registry
        self._requests = requests
        self._auth_failures = auth_failures
        self._catch_up = catch_up

    def find(self, request: Request) -> ClientCertificate | None:
        """Return the certificate of a request that has no Authorization header."""
        if self._certificates is None or any(
            name == AUTHORIZATION for name, _ in request.scope["headers"]
        ):
            return None
        return self._certificates.find(request)

    def check_cached(
        self, kind: str, id: str, headers: RawHeaders, peer: tuple[str, int] | None
    ) -> RegistryRecord | None:
        """As Authenticator.check_cached, for a request that has no Authorization header."""
        if self._certificates is None:
            return None
        certificate = self._certificates.find_fast(headers, peer)
        if certificate is None:
            return None
        try:
            node = self._certificates.verify(certificate)
        except CertificateError:
            return None
        record = self._find_registered(kind, id, node)
        if record is not None:
            self._requests.count_attempt("certificate", True)
        return record

    async def check(
        self,
        kind: str,
        id: str,
        certificate: ClientCertificate,
        scope: Scope,
        deadline: float,
        *,
        again: bool = False,
    ) -> RegistryRecord:
        """Return the record of the entity if `certificate` is for its present registration.

        With `again`, the check is repeated after the body has arrived; a success is not counted a
        second time.

        Raises:
            ApiError: 401 or 429; 503 if the registry could not be read.
        """
        assert self._certificates is not None, "it has found the certificate"
        if not self._registry.is_current:  # without the cluster time, none would be valid yet
            await self._catch_up(deadline)
        try:
            node = self._certificates.verify(certificate)
        except CertificateError:
            raise self._auth_failures.failure("certificate", scope) from None
        record = self._find_registered(kind, id, node)
        if record is None:
            await self._catch_up(deadline)
            record = self._find_registered(kind, id, node)
        if record is None:
            raise self._auth_failures.failure("certificate", scope)
        if not again:
            self._requests.count_attempt("certificate", True)
        return record

    def _find_registered(self, kind: str, id: str, node: CertifiedNode) -> RegistryRecord | None:
        record = self._registry.get(kind, id)
        if record is None or record.incarnation is None:
            return None
        present = CertifiedNode(kind, id, record.incarnation, record.token_epoch)
        return record if node == present else None
